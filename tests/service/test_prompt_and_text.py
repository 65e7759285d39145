"""What of a prompt is computed and what of an answer is text: special tokens, stops, cuts, open ends."""

import json
import shutil
from pathlib import Path
from typing import Any

import openai
import pytest

from local.tiny_model import END_OF_TEXT, TURN_START
from tests.service.server import ServerProcess
from tests.service.test_api import HELLO, chat, post, streamed

END = "<|im_end|>"


@pytest.fixture(scope="module")
def end(server: ServerProcess) -> int:
    [token] = post(server, "/tokenize", {"prompt": END}).json()["tokens"]
    return int(token)


def text_of(chunks: list[openai.types.chat.ChatCompletionChunk]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


class TestSpecialTokens:
    def test_are_text_only_where_that_is_wanted(self, client: openai.OpenAI, end: int) -> None:
        options: dict[str, Any] = {"logit_bias": {str(end): 100}, "temperature": 0, "max_tokens": 3}
        for skipped, text in ((None, ""), (True, ""), (False, END * 3)):
            body = {"skip_special_tokens": skipped}
            assert chat(client, **options, extra_body=body).choices[0].message.content == text
            assert text_of(streamed(client, **options, extra_body=body)) == text

    def test_spaces_between_them_are_never_taken_away(self, client: openai.OpenAI) -> None:
        assert chat(client, extra_body={"spaces_between_special_tokens": False}).choices[0].message.content
        with pytest.raises(openai.BadRequestError) as refused:
            chat(client, extra_body={"spaces_between_special_tokens": False, "skip_special_tokens": False})
        assert refused.value.param == "spaces_between_special_tokens"

    def test_the_tokenizers_own_come_around_completions_and_not_around_chats(self, model: Path, tmp_path: Path) -> None:
        directory = tmp_path / "model"
        shutil.copytree(model, directory)
        saved = json.loads((directory / "tokenizer.json").read_text())
        number = next(token["id"] for token in saved["added_tokens"] if token["content"] == END_OF_TEXT)
        first, text = {"SpecialToken": {"id": END_OF_TEXT, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}
        named = {END_OF_TEXT: {"id": END_OF_TEXT, "ids": [number], "tokens": [END_OF_TEXT]}}
        begins = {"type": "TemplateProcessing", "single": [first, text], "pair": [first, text], "special_tokens": named}
        (directory / "tokenizer.json").write_text(json.dumps({**saved, "post_processor": begins}))
        server = ServerProcess(directory, tmp_path / "log", ready=True)

        def prompt_tokens(path: str, body: dict[str, Any], special: bool | None) -> int:
            sent = {**body, "max_tokens": 1, "add_special_tokens": special}
            return int(post(server, path, sent).json()["usage"]["prompt_tokens"])

        try:
            for path, body, default in (
                ("/v1/completions", {"prompt": "Once"}, True),
                ("/v1/chat/completions", {"messages": HELLO}, False),
            ):
                with_it, without, unset = (prompt_tokens(path, body, special) for special in (True, False, None))
                assert with_it == without + 1
                assert unset == (with_it if default else without)
        finally:
            server.close()

    def test_that_mark_thoughts_or_calls_are_seen_by_whoever_reads_these(self, model: Path, tmp_path: Path) -> None:
        directory = tmp_path / "model"
        shutil.copytree(model, directory)
        settings = directory / "tokenizer_config.json"
        thought = {"open": TURN_START, "close": "</think>", "content": "text"}
        template = {
            "start_anchor": "assistant\n",
            "fields": {"reasoning_content": thought, "content": {"content": "text"}},
        }
        settings.write_text(json.dumps({**json.loads(settings.read_text()), "response_template": template}))
        server = ServerProcess(directory, tmp_path / "log")
        try:
            begin, letter, other = (
                post(server, "/tokenize", {"prompt": text}).json()["tokens"][0]
                for text in (TURN_START, "a", END_OF_TEXT)
            )
            sent = {"messages": HELLO, "seed": 1, "n": 16, "max_tokens": 9, "temperature": 2.0}
            sent["logit_bias"] = {begin: 100, letter: 100, other: 100}
            for skipped in (None, False):
                body = {**sent, "skip_special_tokens": skipped}
                answers = [one["message"] for one in post(server, "/v1/chat/completions", body).json()["choices"]]
                assert "a" in "".join(answer.get("reasoning_content", "") for answer in answers)
                assert (END_OF_TEXT in "".join(answer["content"] for answer in answers)) == (skipped is False)
        finally:
            server.close()


class TestStops:
    @pytest.mark.parametrize("length", [1, 3])
    def test_string_ends_the_text_or_is_its_end(self, client: openai.OpenAI, length: int) -> None:
        text = chat(client, temperature=0).choices[0].message.content
        assert text is not None
        stop = text[3 : 3 + length]
        before = text[: text.find(stop)]
        for included, told in ((False, before), (True, before + stop)):
            options: dict[str, Any] = {"temperature": 0, "stop": stop}
            body = {"include_stop_str_in_output": included}
            choice = chat(client, **options, extra_body=body).choices[0]
            assert (choice.message.content, choice.finish_reason) == (told, "stop")
            assert text_of(streamed(client, **options, extra_body=body)) == told

    def test_token_is_text_where_that_is_wanted(self, client: openai.OpenAI, end: int) -> None:
        options: dict[str, Any] = {"temperature": 0, "max_tokens": 3}
        wanted = {"include_stop_str_in_output": True}

        def text(token: int, **body: Any) -> str | None:
            choice = chat(client, **options, logit_bias={str(token): 100}, extra_body=body).choices[0]
            assert choice.finish_reason == "stop"
            return choice.message.content

        letter = chat(client, **options, logit_bias={"65": 100}, extra_body={"ignore_eos": True}).choices[0].message
        assert text(65, stop_token_ids=[65]) == ""
        assert text(65, stop_token_ids=[65], **wanted) == (letter.content or "")[:1]
        plain = {"ignore_eos": False, "skip_special_tokens": False}
        assert text(end, **plain) == ""
        assert text(end, **plain, **wanted) == END


class TestTruncation:
    PROMPT = tuple(range(50, 60))

    def echo(self, server: ServerProcess, **options: Any) -> tuple[str, int]:
        body = {"prompt": list(self.PROMPT), "max_tokens": 0, "echo": True, **options}
        answer = post(server, "/v1/completions", body).json()
        return answer["choices"][0]["text"], answer["usage"]["prompt_tokens"]

    def test_keeps_the_last_tokens_or_the_first(self, server: ServerProcess) -> None:
        whole, _ = self.echo(server)
        assert len(whole) == len(self.PROMPT)
        assert self.echo(server, truncate_prompt_tokens=4) == (whole[-4:], 4)
        assert self.echo(server, truncate_prompt_tokens=4, truncation_side="right") == (whole[:4], 4)
        assert self.echo(server, truncate_prompt_tokens=100) == self.echo(server) == (whole, 10)

    def test_minus_one_keeps_what_fits_beside_the_answer(self, server: ServerProcess) -> None:
        body = {"prompt": "hello " * 5000, "max_tokens": 8, "truncate_prompt_tokens": -1, "ignore_eos": True}
        used = post(server, "/v1/completions", body).json()["usage"]
        assert (used["prompt_tokens"], used["completion_tokens"]) == (2048 - 8, 8)
        chatty = {"messages": [{"role": "user", "content": "hello " * 5000}], "truncate_prompt_tokens": -1}
        used = post(server, "/v1/chat/completions", {**chatty, "max_tokens": 3, "ignore_eos": True}).json()["usage"]
        assert (used["prompt_tokens"], used["completion_tokens"]) == (2048 - 3, 3)

    @pytest.mark.parametrize("wanted", [2048, -2, 0])
    def test_what_cannot_be_kept_is_refused(self, server: ServerProcess, wanted: int) -> None:
        body = {"prompt": "hello", "max_tokens": 8, "truncate_prompt_tokens": wanted}
        answer = post(server, "/v1/completions", body)
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == ("prompt" if wanted == 0 else "truncate_prompt_tokens")


class TestOpenEnds:
    def prompt(self, server: ServerProcess, **options: Any) -> str:
        messages = [*HELLO, {"role": "assistant", "content": "I say"}]
        tokens = post(server, "/tokenize", {"messages": messages, **options}).json()["tokens"]
        used = post(server, "/v1/chat/completions", {"messages": messages, "max_tokens": 1, **options}).json()["usage"]
        assert used["prompt_tokens"] == len(tokens)
        text: str = post(server, "/detokenize", {"tokens": tokens}).json()["prompt"]
        return text

    def test_last_message_is_gone_on_with(self, server: ServerProcess) -> None:
        assert self.prompt(server).endswith("I say<|im_end|>\n<|im_start|>assistant\n")
        assert self.prompt(server, add_generation_prompt=False).endswith("I say<|im_end|>\n")
        assert self.prompt(server, continue_final_message=True).endswith("I say")

    def test_both_at_once_are_refused(self, client: openai.OpenAI) -> None:
        with pytest.raises(openai.BadRequestError) as refused:
            chat(client, extra_body={"continue_final_message": True, "add_generation_prompt": True})
        assert refused.value.param == "continue_final_message"


@pytest.mark.parametrize(
    ("name", "value", "harmless"),
    [
        ("echo", True, False),
        ("include_reasoning", False, True),
        ("thinking_token_budget", 100, -1),
        ("logprob_token_ids", [1], None),
        ("return_token_ids", True, False),
        ("return_tokens_as_token_ids", True, False),
        ("priority", 1, 0),
        ("cache_salt", "x", None),
        ("bad_words", ["x"], []),
        ("allowed_token_ids", [1], None),
        ("use_beam_search", True, False),
    ],
)
def test_field_that_would_change_the_answer_is_refused_unless_it_asks_for_nothing(
    client: openai.OpenAI, name: str, value: object, harmless: object
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        chat(client, extra_body={name: value})
    assert refused.value.param == name
    assert chat(client, extra_body={name: harmless}).choices[0].finish_reason == "length"
