"""The study: what a merge keeps of each concept, by many methods under equal conditions.

    cd benchmarks && python -m study --smoke         # minutes; two concepts, few steps
    cd benchmarks && python -m study --work FOLDER   # hours; what was done before is not done again

Every method has the same base, images, tokens, steps, rank and order of images; what differs is
what trains beside the tokens (recipes.py, sides.py, blocks.py) and how residuals become one
(merging.py). Source: method.md 8; arXiv 2312.02432.
"""
