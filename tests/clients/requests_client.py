"""Calls an LLM API with requests, one call after the other."""

import requests

import pace

opts = pace.options(__doc__)
session = requests.Session()
session.verify = opts.ca or True
session.headers.update(pace.HEADERS[opts.api])


def warm():
    session.get(opts.base_url + "/v1/models").raise_for_status()


def call(body, answer):
    url = opts.base_url + pace.PATHS[opts.api]
    with session.post(url, json=body, stream=bool(body.get("stream"))) as response:
        answer.status = response.status_code
        if not response.headers["content-type"].startswith("text/event-stream"):
            getattr(answer, opts.api)(response.json())
            return
        for line in response.iter_lines(chunk_size=None, decode_unicode=True):
            if answer.feed_line(line, opts.api) and answer.events == opts.cancel_after:
                return


pace.run(opts, warm, call)
