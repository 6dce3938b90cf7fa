"""Models this node serves: from a record to a proven engine that is offered, and back."""

from node.serving.ports import Planner, Prepared, ServedModel, ServeProgress, ServingTerms, prices
from node.serving.serving import Serving

__all__ = [
    "Planner", "Prepared", "ServeProgress", "ServedModel", "Serving", "ServingTerms", "prices",
]  # fmt: skip
