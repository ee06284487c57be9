import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Olmo2Config,
    Olmo2ForCausalLM,
    OlmoConfig,
    OlmoForCausalLM,
)

from snapcoder.language_model import block_output, blocks, capture, load, run_from, unembedding

SIZE = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 50}
LLAMA = {**SIZE, "num_key_value_heads": 2, "max_position_embeddings": 32, "pad_token_id": 0}
MAKERS = {
    "gpt_neox": lambda: GPTNeoXForCausalLM(GPTNeoXConfig(**SIZE, max_position_embeddings=32)),
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**LLAMA)),
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=3, n_head=2, vocab_size=50, n_positions=32)),
    "olmo": lambda: OlmoForCausalLM(OlmoConfig(**LLAMA)),
    "olmo2": lambda: Olmo2ForCausalLM(Olmo2Config(**LLAMA)),
}
TOKENS = torch.arange(24).reshape(3, 8) % 50


@pytest.fixture(params=MAKERS)
def model(request):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return MAKERS[request.param]().eval().requires_grad_(False)


def test_captured_activations_are_transformers_own_hidden_states(model):
    states = model(input_ids=TOKENS, output_hidden_states=True).hidden_states
    for layer in (0, 1):
        assert torch.equal(capture(model, TOKENS, layer=layer), states[layer + 1])


def test_the_last_block_is_read_before_the_final_norm(model):
    activation = capture(model, TOKENS, layer=2)
    final = model(input_ids=TOKENS, output_hidden_states=True).hidden_states[-1]
    base = model.base_model
    norm = next(getattr(base, name) for name in ("final_layer_norm", "norm", "ln_f") if hasattr(base, name))
    assert torch.allclose(norm(activation), final, atol=1e-6)


def test_later_blocks_do_not_run(model):
    ran = []
    handles = [block.register_forward_hook(lambda *_, n=n: ran.append(n)) for n, block in enumerate(blocks(model))]
    capture(model, TOKENS, layer=1)
    for handle in handles:
        handle.remove()
    assert ran == [0, 1]


def test_no_hook_stays_behind(model):
    before = model(input_ids=TOKENS).logits
    capture(model, TOKENS, layer=0)
    run_from(model, torch.zeros(3, 8, 16), tokens=TOKENS, layer=0)
    assert all(not block._forward_hooks for block in blocks(model))
    assert torch.equal(model(input_ids=TOKENS).logits, before)


def test_running_from_the_captured_activation_gives_the_model_itself(model):
    expected = model(input_ids=TOKENS).logits
    for layer in range(3):
        again = run_from(model, capture(model, TOKENS, layer=layer), tokens=TOKENS, layer=layer)
        assert torch.allclose(again, expected, atol=1e-6)


def test_the_gradient_reaches_the_activation(model):
    activation = capture(model, TOKENS, layer=1).clone().requires_grad_(True)
    run_from(model, activation, tokens=TOKENS, layer=1)[:, -1, 7].sum().backward()
    assert activation.grad is not None
    step = 1e-3 * torch.nn.functional.normalize(activation.grad.flatten(), dim=0).reshape(activation.shape)
    high, low = (
        run_from(model, activation.detach() + sign * step, tokens=TOKENS, layer=1)[:, -1, 7].sum() for sign in (1, -1)
    )
    assert float((high - low) / 2e-3) == pytest.approx(float(activation.grad.norm()), rel=5e-2)


def test_a_loaded_checkpoint_is_the_saved_model(model, tmp_path):
    model.save_pretrained(tmp_path)
    again = load(tmp_path)
    assert not again.training
    assert torch.allclose(again(input_ids=TOKENS).logits, model(input_ids=TOKENS).logits, atol=1e-5)


def test_unembedding_and_final_norm_are_found(model):
    matrix, weight = unembedding(model)
    assert matrix.shape == (50, 16)
    assert weight is None or weight.shape == (16,)  # OLMo's norm has no weight


def test_a_missing_block_is_refused(model):
    with pytest.raises(ValueError, match="block 3 does not exist"):
        capture(model, TOKENS, layer=3)


def test_a_batch_item_is_never_taken_for_the_hidden_states():
    hidden = torch.zeros(3, 8, 16)
    assert block_output(hidden) is hidden
    assert block_output((hidden, "cache")) is hidden
    with pytest.raises(ValueError, match="expected hidden states"):
        block_output((hidden[0], None))


def test_a_replacement_of_another_shape_is_refused(model):
    with pytest.raises(ValueError, match="activation of shape"):
        run_from(model, torch.zeros(3, 7, 16), tokens=TOKENS, layer=1)


def test_a_folder_without_a_checkpoint_is_named(tmp_path):
    with pytest.raises(ValueError, match="not a checkpoint that can be loaded"):
        load(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "gpt_neox"}')
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(ValueError, match="not a checkpoint that can be loaded"):
        load(tmp_path)


def test_a_checkpoint_with_a_missing_weight_is_refused_not_filled_with_random_numbers(tmp_path):
    MAKERS["gpt_neox"]().save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    lost = tensors.pop(next(name for name in tensors if "layers.1" in name))
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert lost.numel() > 0
    with pytest.raises(ValueError, match=r"1 weights are missing or have another shape, first gpt_neox\.layers\.1"):
        load(tmp_path)


def test_a_checkpoint_without_an_output_head_is_refused(tmp_path):
    MAKERS["gpt_neox"]().gpt_neox.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="weights are missing or have another shape"):
        load(tmp_path)


def test_lists_inside_a_block_are_not_taken_for_the_blocks():
    class Experts(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.config = LlamaConfig(**LLAMA)
            self.layers = torch.nn.ModuleList(
                torch.nn.ModuleList(torch.nn.Linear(2, 2) for _ in range(3)) for _ in range(3)
            )

    model = Experts()
    assert blocks(model) is model.layers
    model.other = torch.nn.ModuleList(torch.nn.Linear(2, 2) for _ in range(3))
    with pytest.raises(ValueError, match="Experts: 2 module lists of 3 blocks; this architecture is not supported"):
        blocks(model)


def test_half_precision_models_give_float32_activations():
    model = MAKERS["llama"]().eval().to(torch.bfloat16)
    with torch.no_grad():
        activation = capture(model, TOKENS, layer=1)
        logits = run_from(model, activation, tokens=TOKENS, layer=1)
        assert activation.dtype == torch.float32
        assert torch.equal(logits, model(input_ids=TOKENS).logits)
