"""The health of a model without labels: are pictures sharp, masks crisp, concepts alive, and do swaps do something?"""

from .measure import measure_health
from .report import HEALTH_FILE, HealthReport

__all__ = ["HEALTH_FILE", "HealthReport", "measure_health"]
