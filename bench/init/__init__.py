"""From pictures to a suite: look at a folder, choose what fits it, write a suite that runs at once.

look.py     what lies there: layout, classes, splits, sizes, damage, copies
sheet.py    a few pictures of every class, on one sheet
draft.py    the suite: systems, protocols, recipe, seeds, with the reasons as comments
"""
