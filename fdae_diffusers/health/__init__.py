"""The health of a model without labels: are pictures sharp, masks crisp, concepts alive, and do swaps do something?"""

from .foreign import ForeignImage, find_foreign_images
from .measure import measure_health
from .report import HealthReport

__all__ = ["ForeignImage", "HealthReport", "find_foreign_images", "measure_health"]
