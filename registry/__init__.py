"""What a record is: models, agents and builds, and what makes one valid."""
