"""The CUDA kernel without a GPU: its values, and that it compiles for one."""

import os
import subprocess
import sys
from inspect import signature
from pathlib import Path

import pytest

pytest.importorskip("triton")


def test_values_in_the_interpreter():
    """In a process of its own: triton is an interpreter only if it is imported as one."""
    path = Path(__file__).with_name("interpreted_triton.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(path)]
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:]


@pytest.mark.parametrize(
    ("capability", "element", "gamma_is"),
    [(80, "fp32", 2), (90, "fp32", 0), (90, "fp16", -1), (90, "bf16", 1)],
)
@pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION")
def test_compiles_for_a_gpu_with_wide_accesses(
    monkeypatch, tmp_path, capability, element, gamma_is
):
    from ablations.losses.triton_kernel import BLOCK, focal_kernel

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    types = {
        "logits": f"*{element}",
        "target": "*i64",
        "weight": "*fp32",
        "upstream": "*fp32",
        "gradient": f"*{element}",
        "block_sums": "*fp32",
        "elements": "i32",
        "gamma": "fp32",
        "positive_factor": "fp32",
        "negative_factor": "fp32",
    }
    constants = {
        "CLASSES": 80,
        "GAMMA_IS": gamma_is,
        "HAS_WEIGHT": True,
        "HAS_UPSTREAM": True,
        "HAS_GRADIENT": True,
        "SIZE": BLOCK,
    }
    # What a launch finds out by itself about torch's allocations and sizes like 100,000 x 80.
    aligned = ("logits", "target", "weight", "gradient", "elements")
    assembly = assemble(focal_kernel, types, constants, aligned, capability)
    assert "ld.global.v4.b32" in assembly and "st.global.v4.b32" in assembly


@pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION")
def test_rescaling_compiles_to_one_branch_around_all_traffic(monkeypatch, tmp_path):
    from ablations.losses.triton_kernel import BLOCK, rescale_kernel

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    types = {"values": "*fp32", "factor": "*fp32", "elements": "i32"}
    assembly = assemble(rescale_kernel, types, {"SIZE": BLOCK}, ("values", "elements"), 90)
    before, after = assembly.split("bra", 1)
    assert before.count("ld.global") == 1  # the factor
    assert "ld.global.v4.b32" in after and "st.global.v4.b32" in after


def assemble(kernel, types, constants, aligned, capability):
    """The PTX of a kernel, compiled for a GPU that this machine need not have."""
    from triton import compile as compile_kernel
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    if "constexprs" not in signature(ASTSource.__init__).parameters:
        pytest.skip("this triton takes the source of a kernel in another form (before 3.3)")
    names = kernel.arg_names
    assert names == [*types, *constants]
    source = ASTSource(
        fn=kernel,
        signature={**types, **dict.fromkeys(constants, "constexpr")},
        constexprs={(names.index(name),): value for name, value in constants.items()},
        attrs={(names.index(name),): [["tt.divisibility", 16]] for name in aligned},
    )
    return compile_kernel(source, target=GPUTarget("cuda", capability, 32)).asm["ptx"]
