"""Lets timm be imported without torchvision.

timm transforms images by it, and that is all; its models, of which alone references are made, do
without. torchvision's builds ask for CUDA's libraries, 8 GB of them.
"""

import importlib.machinery
import sys
import types


class _Anything(type):
    """A class that has every attribute."""

    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return _Anything(name, (), {})


class _Module(types.ModuleType):
    """A package that has everything."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return _Anything(name, (), {})


class _Finder:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torchvision":
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        module = _Module(spec.name)
        module.__path__ = []
        return module

    def exec_module(self, module):
        pass


def install():
    """From here on, `import torchvision` brings a package in which nothing works."""
    sys.meta_path.insert(0, _Finder())
