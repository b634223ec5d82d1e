"""A task pool: runs to completion before anything that needs the databases is started."""

import record

record.create()
# Importing the tasks makes the queue's own tables, once, before three workers would all try.
import tasks  # noqa: E402, F401 - the directory must exist first

print(f"the databases are in {record.DIRECTORY}")
