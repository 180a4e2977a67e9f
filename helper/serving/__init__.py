"""A chat with a model on this machine, for programs and for people: an endpoint of OpenAI's shape, and one page.

    python -m helper.serve MODEL_FOLDER        the command (`helper.serve`)

`chat_requests` reads what a client asks, `writing` writes with the model, `replies` shapes what goes back, `server` stands
between them and the network. `docs/security.md` says what is kept out, and how.
Left out on purpose: other machines, several users, batching, tools, log-probabilities, embeddings.
"""
