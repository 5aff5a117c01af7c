"""The filters of bodies: exports of an interface are looked for in a module of its name."""

import scenario
from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.body_stream import (
    ChunkVerdict_Abort,
    ChunkVerdict_Proceed,
    ChunkVerdict_Replace,
)


class BodyFilter(exports.body_stream.BodyFilter):
    def __init__(self, which, note):
        self.which = which.name.lower()
        self.chunks = 0

    def chunk(self, data, last):
        self.chunks += 1
        match scenario.name:
            case "stream-replace":
                text = f"{self.which} {self.chunks} {data.decode().upper()} {'true' if last else 'false'};"
                return ChunkVerdict_Replace(text.encode())
            case "stream-swallow" if not last:
                return ChunkVerdict_Replace(b"")
            case "stream-abort":
                return ChunkVerdict_Abort("as told")
            case "stream-error":
                raise Err("as told")
        return ChunkVerdict_Proceed()
