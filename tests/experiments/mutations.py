"""Files as strangers, disks and networks leave them."""

import copy
import json

HOSTILE = (
    *(None, True, False, 0, -1, 1, 10**18, 2**63, 10**400, 0.5, 1e308),
    *("", "x", "1", "../../x", "\x1b[2J", "é" * 2000, "__import__('os')"),
    *([], [[]], [1], ["a", "b"], [1, 2, 3], {}, {"name": "ppo"}),
)


def mutate_bytes(data, draw):
    """Return bytes with some flipped, missing or added, or without their end."""
    data = bytearray(data)
    for _ in range(draw.randint(1, 3)):
        place = draw.randrange(len(data) + 1)
        match draw.choice(["flip", "delete", "insert", "truncate"]):
            case "flip" if place < len(data):
                data[place] ^= 1 << draw.randrange(8)
            case "delete":
                del data[place : place + draw.randint(1, 8)]
            case "insert":
                data[place:place] = draw.randbytes(draw.randint(1, 8))
            case "truncate":
                del data[place:]
    return bytes(data)


def places(value, path=()):
    """Yield the way to everything in a tree of JSON."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in list(pairs):
        yield (*path, key)
        if isinstance(inner, dict | list):
            yield from places(inner, (*path, key))


def mutate_json(fields, draw):
    """Return a tree of JSON with something replaced, removed, added or there twice."""
    fields = copy.deepcopy(fields)
    *way, last = draw.choice(list(places(fields)))
    inside = fields
    for key in way:
        inside = inside[key]
    match draw.choice(["replace", "replace", "remove", "add", "nest", "twice"]):
        case "replace":
            inside[last] = draw.choice(HOSTILE)
        case "remove":
            del inside[last]
        case "add" if isinstance(inside, dict):
            inside[draw.choice(["__class__", "x", "name", "self", "seed"])] = draw.choice(HOSTILE)
        case "add":
            inside.insert(last, draw.choice(HOSTILE))
        case "nest":
            inside[last] = {str(last): inside[last]}
        case "twice":
            text = json.dumps(fields)
            name = json.dumps(str(last))
            return text.replace(f"{name}:", f"{name}: 1, {name}:", 1)
    return json.dumps(fields)
