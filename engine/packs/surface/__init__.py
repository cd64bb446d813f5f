"""The modules that packs import, each under the name that they expect; see `engine.packs.importing`.

They hold what well-behaved packs use, written from its documented behaviour: thin calls to Weft's own.
"""
