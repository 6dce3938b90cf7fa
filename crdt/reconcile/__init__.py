"""How two replicas find out what one has and the other lacks, in few bytes: `DESIGN.md`, 9."""
