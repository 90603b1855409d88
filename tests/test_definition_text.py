"""What is left of what a chat model writes around a definition."""

import pytest
from test_definitions import SETTINGS

from polclip.definitions.definition_text import definition_text, is_list
from polclip.definitions.prompts import definition_in

BAT = "a winged animal of the night"
AROUND = [
    "{}",
    "  {}\n",
    "<think>Hmm, which bat?</think>\n{}",
    "<think>\nThe user asks.\n\nA bat: an animal.\n</think>\n\n**bat** (noun): {}",
    "<Thinking mode='x'>x</Thinking>{}",
    "the opening tag was in the prompt</think> {}",
    "<think></think>\n\n{}",
    "<think>a</think><think>b</think>{}",
    "{} <think>Is that right?",
    "<|channel|>analysis<|message|>Hm<|end|><|start|>assistant<|channel|>final<|message|>{}<|return|>",
    "{}<|im_end|>",
    "{}</s>",
    "Definition: {}",
    "**Definition:** {}",
    "DEFINITION - {}",
    "Short definition: {}",
    "Definition of bat: {}",
    'Dictionary definition of "bat" (noun): {}',
    "Meaning: {}",
    "Final answer: {}",
    "The answer is: {}",
    "assistant: {}",
    "**bat** (noun): {}",
    "**bat** *(noun)*: {}",
    "*bat* (n.) \u2014 {}",
    "bat /b\u00e6t/ (noun): {}",
    "bat, noun: {}",
    "bat n. {}",
    "bat: {}",
    "bat - {}",
    "Bat = {}",
    '"bat": {}',
    "bat (noun)\n\n{}",
    "**Bat**\n\n{}",
    "# Bat\n\n{}",
    "noun: {}",
    "(noun) {}",
    "{} (noun)",
    "**Word:** bat\n**Part of speech:** noun\n**Definition:** {}",
    "Sure! {}",
    'Sure! Here is a short English dictionary definition of the word "bat" as it is used in "bat 3": {}',
    "Sure! Here is the definition:\n\n**bat** (noun): {}",
    "Certainly, here's the definition of bat: {}",
    "Okay, so here is the definition: {}",
    "Of course!\n\n{}",
    "Here\u2019s a short definition:\n\n> {}\n\nLet me know if you need more!",
    "Here is a brief definition.\n\n{}",
    "{}. I hope this helps!",
    "{}.\n\nExample: The bat flew off.",
    "{}.\nSynonyms: flittermouse",
    "{}. For example, the bat flew off.",
    'The definition of "bat" is: {}',
    '"Bat" refers to {}',
    'In this context, "bat" means {}',
    'In the phrase "bat night," "bat" refers to {}',
    'The word "bat" in "bat night" means {}',
    "- {}",
    "* {}",
    "\u2022 {}",
    "1. {}",
    "> {}",
    '"{}"',
    '"{}".',
    "\u201c{}\u201d",
    "\u00ab{}\u00bb",
    "'{}'",
    "`{}`",
    "**{}**",
    "***{}***",
    "```\n{}\n```",
    '```json\n{{"definition": "{}"}}\n```',
    '{{"word": "bat", "definition": "{}"}}',
    '{{"bat": "{}"}}',
    "\\boxed{{{}}}",
    "<b>bat</b>: {}",
    "\u200b\ufeff{}\x00",
]


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("definition", [BAT, "a club (of wood) for hitting; used in games"])
def test_what_is_around_a_definition_is_left_out(around, definition):
    text = around.format(definition)
    assert definition_text(text, "bat").rstrip(".") == definition
    answer = {"text": text, "refusal": None, "finish_reason": "stop"}
    found, flag = definition_in(answer, SETTINGS, "bat")
    assert flag is None and found.rstrip(".") == definition


@pytest.mark.parametrize(
    "gloss",
    [
        "a response of body tissues to injury or irritation; characterized by pain and swelling",
        'nocturnal mouselike mammal (called "flying mouse" by some)',
        "(baseball) a turn trying to get a hit",
        "strike with, or as if with a baseball bat",
        "having an answer: a solution",
        '"once" or "twice"',
        "the state of being sure, certain of course",
        "a number such as 1.5 or -3",
        "wink briefly",
        "in this manner",
        "used of definitions or meanings",
        "x_i and *y in some notations",
        "A bat is a winged animal.",
        "\u00e9toffe, tissu l\u00e9ger",
    ],
)
def test_a_plain_definition_stays_as_it_is(gloss):
    assert definition_text(gloss, "bat") == gloss and not is_list(gloss)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n",
        "<think>so",
        "<think>so</think>",
        "...",
        "\u2014",
        "Sure!",
        "Definition:",
        "<|channel|>analysis<|message|>so",
        "42",
    ],
)
def test_nothing_is_no_definition(text):
    assert definition_text(text, "bat") == ""


@pytest.mark.parametrize(
    "text", ["- an animal\n- a club", "1. an animal\n2. a club", "1. an animal 2. a club", "Sure:\n* a b\n* c"]
)
def test_a_list_is_no_definition(text):
    assert is_list(text)


def test_a_text_of_megabytes_takes_no_time():
    for piece in (
        "<think>",
        "</think>",
        '"',
        "*a",
        "(noun",
        "in this context ",
        "1. ",
        "<|channel|>analysis",
        "definition of ",
    ):
        assert len(definition_text(piece * 200_000, "bat")) < 5000
