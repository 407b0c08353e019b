"""What compare.py consists of: plan, jobs, summary, report, picture."""
