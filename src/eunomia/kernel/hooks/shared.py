# SPDX-License-Identifier: BSD-2-Clause
"""The hooks that this process shares: a stub hangs there from the first handler to the last."""

from __future__ import annotations

from eunomia.kernel.hooks import LOCK
from eunomia.kernel.hooks.chain import Chain, Handler
from eunomia.kernel.hooks.place import Place
from eunomia.kernel.hooks.stub import Stub

_hooks: dict[Place, SharedHook] = {}


class SharedHook:
    """A stub and the chain of handlers behind it."""

    def __init__(self, place: Place) -> None:
        """Load the stub; it is attached with the first handler. Raises :class:`KernelError`."""
        self.stub = Stub(place)
        self.chain = Chain(self.stub.table, 0, str(place))

    def close(self) -> None:
        """Take the stub off."""
        self.stub.close()


class HookLink:
    """A handler's place on a shared hook: :meth:`close` takes it out, :meth:`replace` puts another there."""

    def __init__(self, place: Place, hook: SharedHook, handler: Handler) -> None:
        self._place, self._hook, self.handler = place, hook, handler
        self._before = hook.stub.misses()

    @property
    def fd(self) -> int:
        """The descriptor of what keeps the stub attached."""
        return self._hook.stub.descriptor

    def misses(self) -> int:
        """Return how often the kernel skipped the hook since, because it was running on that CPU already."""
        return self._hook.stub.misses() - self._before

    def replace(self, new: Handler) -> None:
        """Put another handler here by one store; raises :class:`KernelError`, and the old one goes on then."""
        with LOCK:
            self._hook.chain.replace(self.handler, new)
            self.handler = new

    def close(self) -> None:
        """Take the handler out; with the last of them the stub leaves the hook."""
        with LOCK:
            self._hook.chain.remove(self.handler)
            _leave(self._place, self._hook)


def attach(place: Place, handler: Handler) -> HookLink:
    """Put a handler behind the others of a place; raises :class:`KernelError`, and leaves nothing then."""
    with LOCK:
        hook = _hooks.get(place)
        if hook is None:
            hook = _hooks[place] = SharedHook(place)
        try:
            hook.chain.insert(handler)
            try:
                if hook.stub.descriptor < 0:
                    hook.stub.attach()
                return HookLink(place, hook, handler)
            except BaseException:
                hook.chain.remove(handler)
                raise
        except BaseException:
            _leave(place, hook)
            raise


def _leave(place: Place, hook: SharedHook) -> None:
    if not hook.chain.handlers:
        hook.close()
        del _hooks[place]
