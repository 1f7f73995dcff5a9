"""Memory, time and cost of a job, before a dollar is spent.

    from planning import make_plan
    plan = make_plan(job)          # a Job or a Pipeline from training.config
    plan.fits, plan.document()     # what `make plan JOB=… OUT=plan.json` writes
    job = plan.apply(job)          # the job with what the plan chose written into it

Imports no torch: a plan is made in well under a second.
"""

from planning.build import make_plan, plan_here
from planning.document import Plan, Range

__all__ = ["Plan", "Range", "make_plan", "plan_here"]
