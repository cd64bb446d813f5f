"""A package of nodes: `MODULES` names the modules that declare them."""

MODULES = ("greetings",)
