"""Makes what hooks return, and turns what they raise into the policy's own failure.

A policy can do without it: everything here is a line or two over the generated modules.
"""

import functools
import json
import sys
import traceback

from componentize_py_types import Err
from wit_world.imports import types

Edit = types.Edit_Set | types.Edit_Append | types.Edit_Remove | types.Edit_Note
Reply = types.Reply


def proceed():
    return types.Verdict_Proceed()


def amend(*edits):
    """Goes on with these edits."""
    return types.Verdict_Amend(list(edits))


def respond(reply):
    """Stops here and answers."""
    return types.Verdict_Respond(reply)


def set(name, value):  # as the contract calls it
    return types.Edit_Set((name, value))


def append(name, value):
    return types.Edit_Append((name, value))


def remove(name):
    return types.Edit_Remove(name)


def note(data):
    """Bytes that the policy's later hooks for this exchange get."""
    return types.Edit_Note(data)


def problem(status, title, detail):
    """A reply that refuses, as a problem document (RFC 9457)."""
    body = json.dumps({"title": title, "status": status, "detail": detail}, ensure_ascii=False)
    return Reply(status, [("content-type", "application/problem+json")], body.encode())


class Body:
    """The same verdicts for hooks that see bodies."""

    proceed = staticmethod(lambda: types.BodyVerdict_Proceed())
    amend = staticmethod(lambda *edits: types.BodyVerdict_Amend(list(edits)))
    respond = staticmethod(lambda reply: types.BodyVerdict_Respond(reply))
    replace = staticmethod(lambda body, *edits: types.BodyVerdict_Replace((body, list(edits))))


def policy(cls):
    """Decorates the class with the hooks: an exception in one becomes its error, with the traceback in the log.

    Otherwise it would end the instance.
    """
    for name, hook in list(vars(cls).items()):
        if callable(hook) and not name.startswith("_"):
            setattr(cls, name, _told(hook))
    return cls


def _told(hook):
    @functools.wraps(hook)
    def call(*arguments):
        try:
            return hook(*arguments)
        except Err:
            raise
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            raise Err(f"{type(error).__name__}: {error}") from error

    return call
