"""What compare.py consists of: plan, jobs, time limit, summary, report, picture."""
