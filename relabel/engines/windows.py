"""How much a model at an API reads: publicly listed, without the network."""


def window_of(model: str, base_url: str | None = None) -> int | None:
    """Return how many tokens a model at OpenAI, or at the service behind `base_url`, reads and writes together.

    From the table within the package genai-prices; None where it does not say.
    """
    from genai_prices import Usage, calc_price

    one = Usage(input_tokens=1)
    try:
        if base_url:
            return calc_price(one, model, provider_api_url=base_url).model.context_window
        return calc_price(one, model, provider_id="openai").model.context_window
    except LookupError:
        return None
