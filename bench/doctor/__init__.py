"""Before an hour is spent: is everything there that a suite needs, and is it what it seems?

    check.py      one check: topic, status, what was found, what to do
    suite.py      a suite planned with the data sets that it names
    machine.py    cores, memory, devices, disk, versions, ports
    folder.py     the work folder, what the last run left, MLflow's database
    datasets.py   the data sets: there, whole, in the right order, test images apart
    weights.py    the public weights
    examine.py    all checks of a machine and, with a suite, of everything that it needs
    before.py     what `run` refuses before it writes anything

Nothing is changed, downloaded or packed. Checks of parts that the suite does not use are left out.
"""
