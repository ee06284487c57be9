"""Settings of explanations by a language model; off unless an endpoint is named."""

from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from snapcoder.study.field import setting


@dataclass(frozen=True)
class ExplainSettings:
    """What a language model makes of the features (docs/explanations.md). With no endpoint nothing is sent anywhere."""

    endpoint: str = setting(
        "", "Base address of an OpenAI-compatible service, such as http://localhost:8000/v1; empty: no explanations."
    )
    model: str = setting("", "Name of the model, as the service calls it.")
    api_key_env: str = setting(
        "", "Name of the environment variable that holds the key; empty: none is sent. Never the key itself."
    )
    features: int = setting(
        100,
        "Features explained, drawn in turn from those of each onset; 0: all that have examples.",
        unit="features",
        minimum=0,
    )
    top: int = setting(8, "Strongest examples shown.", unit="examples", minimum=1)
    quantile: int = setting(4, "Examples of lower activation bands shown.", unit="examples", minimum=0)
    silent: int = setting(4, "Contexts shown in which the feature is silent.", unit="examples", minimum=0)
    held_out: int = setting(
        4,
        "Strong examples held back, and as many silent contexts, among which the model must tell which ones activate; 0: not asked. Counted from features.top.",
        unit="examples",
        minimum=0,
    )
    temperature: float = setting(0.0, "Sampling temperature that is asked for.", minimum=0.0, maximum=2.0)
    max_tokens: int = setting(400, "Longest answer that is asked for.", unit="tokens", minimum=50)
    timeout: float = setting(60.0, "Longest wait for an answer.", unit="s", minimum=0.1)
    retries: int = setting(
        4, "Further tries after a failure or an answer that cannot be read.", unit="tries", minimum=0
    )
    parallel: int = setting(4, "Requests under way at a time.", unit="requests", minimum=1)
    seed: int = setting(0, "Seed of the choice of features and silent contexts.", minimum=0)


def explain_problems(settings: ExplainSettings) -> Iterator[str]:
    """Yield what is wrong with the settings of a configured service, one line each."""
    if not settings.endpoint:
        return
    address = urlsplit(settings.endpoint)
    if address.scheme not in ("http", "https") or not address.hostname:
        yield "explain.endpoint: is not an http(s) address; write for example http://localhost:8000/v1"
    if address.username or address.password or address.query:
        yield "explain.endpoint: holds a user, a password or a query; put the key into the variable that explain.api_key_env names"
    if not settings.model:
        yield "explain.model: empty; name the model that explain.endpoint serves"
    if settings.api_key_env and not settings.api_key_env.isidentifier():
        yield "explain.api_key_env: is not the name of an environment variable; the key itself has no place in a configuration"
