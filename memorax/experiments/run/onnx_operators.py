"""A program in operators that ONNX has, which are of real numbers."""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, JaxprEqn, Literal


class Pair(NamedTuple):
    """A complex array, as its real and its imaginary part."""

    real: Any
    imaginary: Any


def in_real_operators(program: ClosedJaxpr) -> ClosedJaxpr:
    """Return a program that computes what another does without complex numbers.

    Inside, pairs of real arrays represent complex ones. Calls are inlined, and so is a scan over a
    single step, as when an agent acts. What no result depends on, such as the random key of an
    initial carry of zeros, is left out.

    Args:
        program: The result of ``jax.make_jaxpr``.

    Raises:
        ValueError: If an argument or a result is complex, such as a part of the carry, or a complex
            operation has no real form in this file.
    """
    if any(_is_complex(array) for array in (*program.in_avals, *program.out_avals)):
        raise ValueError("its carry is complex: keep real and imaginary parts as two arrays")
    real = jax.make_jaxpr(lambda *arguments: _run(program, arguments))(*program.in_avals)
    return real.replace(jaxpr=real.jaxpr.replace(eqns=_needed(real.jaxpr)))


def _needed(jaxpr):
    """Return the equations that a result depends on."""
    variables, equations = set(map(id, jaxpr.outvars)), []
    for equation in reversed(jaxpr.eqns):
        if not variables.isdisjoint(map(id, equation.outvars)):
            variables |= set(map(id, equation.invars))
            equations.append(equation)
    return equations[::-1]


def _run(program: ClosedJaxpr, arguments: Sequence[Any]) -> list[Any]:
    jaxpr = program.jaxpr
    values = dict(zip(jaxpr.constvars, map(_parted, program.consts), strict=True))
    values |= zip(jaxpr.invars, arguments, strict=True)

    def read(variable):
        return _parted(variable.val) if isinstance(variable, Literal) else values[variable]

    for equation in jaxpr.eqns:
        outputs = _evaluate(equation, [read(variable) for variable in equation.invars])
        values |= zip(equation.outvars, outputs, strict=True)
    return [read(variable) for variable in jaxpr.outvars]


def _parted(value):
    return Pair(value.real, value.imag) if _is_complex(value) else value


def _is_complex(value):
    return jnp.issubdtype(value.dtype, jnp.complexfloating)


def _evaluate(equation: JaxprEqn, inputs: list[Any]) -> Sequence[Any]:
    name, params = equation.primitive.name, equation.params
    if name in _CALLS:
        inner = params[_CALLS[name]]
        return _run(inner if isinstance(inner, ClosedJaxpr) else ClosedJaxpr(inner, ()), inputs)
    if name == "scan":
        return _scan(inputs, **params)
    if name in _OF_ONE_STEP and _shape(equation.invars[0])[params["axis"]] == 1:
        return inputs
    if any(_is_complex(variable.aval) for variable in (*equation.invars, *equation.outvars)):
        return _of_pairs(equation, inputs)
    return _bind(equation, inputs)


def _shape(variable: Any) -> tuple[int, ...]:
    return variable.aval.shape


def _of_pairs(equation, inputs):
    name = equation.primitive.name
    if name in _COMPLEX:
        return [_COMPLEX[name](*inputs, **equation.params)]
    if name not in _BY_PARTS:
        raise ValueError(
            f"the complex operation {name} cannot be written; compute it from the real and the "
            "imaginary part"
        )
    parts = ([_part(value, index) for value in inputs] for index in range(2))
    return [Pair(*both) for both in zip(*(_bind(equation, part) for part in parts), strict=True)]


def _bind(equation, inputs):
    axis = equation.params.get("axis")
    match equation.primitive.name:
        # Of these two jax2onnx knows nothing.
        case "stack":
            return [jnp.concatenate([jnp.expand_dims(array, axis) for array in inputs], axis)]
        case "unstack":
            (array,) = inputs
            indices = range(array.shape[axis])
            return [jax.lax.index_in_dim(array, index, axis, False) for index in indices]
        # Of this it makes a MaxPool over all axes, of which onnxruntime runs three at most.
        case "reduce_window_max" if jnp.issubdtype(inputs[0].dtype, jnp.floating):
            shape = equation.outvars[0].aval.shape
            return [_largest_of_windows(inputs[0], shape, **equation.params)]
    outputs = equation.primitive.bind(*inputs, **equation.params)
    return outputs if equation.primitive.multiple_results else [outputs]


def _largest_of_windows(array, shape, *, window_dimensions, window_strides, padding, **dilations):
    if any(size != 1 for sizes in dilations.values() for size in sizes):
        raise ValueError("a maximum over dilated windows cannot be written")
    # jnp.pad would be a call, which jax2onnx does not write for JAX from 0.11 on.
    lowest = jnp.asarray(-jnp.inf, array.dtype)
    padded = jax.lax.pad(array, lowest, [(low, high, 0) for low, high in padding])
    spans = [(size - 1) * stride + 1 for size, stride in zip(shape, window_strides, strict=True)]
    # One strided slice for each place in a window.
    slices = []
    for start in itertools.product(*map(range, window_dimensions)):
        limit = [first + span for first, span in zip(start, spans, strict=True)]
        slices.append(jax.lax.slice(padded, start, limit, window_strides))
    return functools.reduce(jnp.maximum, slices)


def _part(value, index):
    return value[index] if isinstance(value, Pair) else value


def _scan(inputs, *, jaxpr, length, reverse, unroll, **parts):
    num_consts, num_carry = _sizes(**parts)
    constants, carry = inputs[:num_consts], inputs[num_consts : num_consts + num_carry]

    def step(carry, at_step):
        outputs = _run(jaxpr, (*constants, *carry, *at_step))
        return outputs[:num_carry], outputs[num_carry:]

    over = inputs[num_consts + num_carry :]
    if length == 1:
        carry, results = step(carry, jax.tree.map(lambda array: jnp.squeeze(array, 0), over))
        results = jax.tree.map(lambda array: jnp.expand_dims(array, 0), results)
    else:
        carry, results = jax.lax.scan(step, carry, over, length, reverse, unroll)
    return [*carry, *results]


def _sizes(ft_in=None, num_consts=0, num_carry=0, **_):
    # From JAX 0.11 on a scan has trees of its inputs in place of their numbers.
    if ft_in is None:
        return num_consts, num_carry
    constants, carry, _ = ft_in.unpack()
    return len(list(constants)), len(list(carry))


def _multiply(one, other):
    real = one.real * other.real - one.imaginary * other.imaginary
    return Pair(real, one.real * other.imaginary + one.imaginary * other.real)


def _divide(one, other):
    size = other.real * other.real + other.imaginary * other.imaginary
    product = _multiply(one, Pair(other.real, -other.imaginary))
    return Pair(product.real / size, product.imaginary / size)


def _exponential(exponent):
    modulus = jnp.exp(exponent.real)
    return Pair(modulus * jnp.cos(exponent.imaginary), modulus * jnp.sin(exponent.imaginary))


def _converted(value, new_dtype):
    dtype = jnp.finfo(new_dtype).dtype
    if isinstance(value, Pair):
        return Pair(value.real.astype(dtype), value.imaginary.astype(dtype))
    return Pair(value.astype(dtype), jnp.zeros(value.shape, dtype))


_CALLS = {
    "jit": "jaxpr",
    "remat2": "jaxpr",
    "closed_call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
}
"""Primitives that call a program, and the parameter that holds it."""

_OF_ONE_STEP = frozenset({"cummax", "cummin", "cumsum", "cumprod"})
"""Primitives that leave an axis of length 1 unchanged. jax2onnx makes a MaxPool of a cumulative
maximum, which onnxruntime does not run on integers."""

_BY_PARTS = frozenset(
    {
        *("add", "add_any", "sub", "neg", "reduce_sum", "cumsum"),
        *("broadcast_in_dim", "reshape", "squeeze", "transpose", "rev", "copy", "stack", "unstack"),
        *("slice", "dynamic_slice", "concatenate", "select_n", "split", "optimization_barrier"),
    }
)
"""Primitives that act on real and imaginary parts separately."""

_COMPLEX: dict[str, Callable[..., Any]] = {
    "complex": lambda real, imaginary, **_: Pair(real, imaginary),
    "real": lambda value, **_: value.real,
    "imag": lambda value, **_: value.imaginary,
    "conj": lambda value, **_: Pair(value.real, -value.imaginary),
    "mul": lambda one, other, **_: _multiply(one, other),
    "div": lambda one, other, **_: _divide(one, other),
    "exp": lambda value, **_: _exponential(value),
    "convert_element_type": lambda value, new_dtype, **_: _converted(value, new_dtype),
}
"""Operations on both parts together, as functions of pairs."""
