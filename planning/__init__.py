"""Prediction of the memory, duration, disk and cost of a job before it runs.

    from planning import make_plan
    plan = make_plan(job)          # a Job or a Pipeline from training.config
    plan.fits, plan.document()     # the document is what `temper plan` writes as plan.json
    job = plan.apply(job)          # the job with the settings that the plan chose

Nothing here imports torch: a plan takes well under a second.
"""

from planning.build import make_plan, plan_here
from planning.document import Plan, Range

__all__ = ["Plan", "Range", "make_plan", "plan_here"]
