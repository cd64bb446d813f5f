"""Nodes that work on text."""

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, NamedTuple

from engine.schema import Growing, Range, Widget, node
from engine.types import Run, Shown

CONVERSIONS: Mapping[str, Callable[[Any], str]] = {"r": repr, "s": str, "a": ascii}

LONGEST_FILL = 10_000
"""Characters that a place in a text may be filled up to."""

Text = Annotated[str, Widget(multiline=True)]
Line = Annotated[str, Widget(multiline=False)]


class Length(NamedTuple):
    """Number of characters."""

    length: int


class Saved(NamedTuple):
    """A text that was saved."""

    text: str
    shown: Shown


class Contains(NamedTuple):
    """Whether text contains another."""

    contains: bool


class Matches(NamedTuple):
    """Whether a pattern was found."""

    matches: bool


@node("StringConcatenate", title="Concatenate", category="utils/string")
def concatenate(*, string_a: Text, string_b: Text, delimiter: Line = "") -> str:
    """Put two texts together.

    Args:
        string_a: The first text.
        string_b: The second text.
        delimiter: What stands between them.
    """
    return delimiter.join((string_a, string_b))


@node("StringSubstring", title="Substring", category="utils/string")
def substring(*, string: Text, start: int, end: int) -> str:
    """Cut a piece out of a text.

    Args:
        string: The text.
        start: First character, from 0; negative counts from the end.
        end: The character to stop before; negative counts from the end.
    """
    return string[start:end]


@node("StringLength", title="Length", category="utils/string")
def length_of(*, string: Text) -> Length:
    """Count the characters of a text.

    Args:
        string: The text.
    """
    return Length(len(string))


@node("CaseConverter", title="Case Converter", category="utils/string")
def change_case(*, string: Text, mode: Literal["UPPERCASE", "lowercase", "Capitalize", "Title Case"]) -> str:
    """Change between capital and small letters.

    Args:
        string: The text.
        mode: All capitals, all small, the first letter of the text, or of each word.
    """
    changes = {"UPPERCASE": str.upper, "lowercase": str.lower, "Capitalize": str.capitalize, "Title Case": str.title}
    return changes[mode](string)


@node("StringTrim", title="Trim", category="utils/string")
def trim(*, string: Text, mode: Literal["Both", "Left", "Right"]) -> str:
    """Take away white space at the ends of a text.

    Args:
        string: The text.
        mode: At which end.
    """
    changes = {"Both": str.strip, "Left": str.lstrip, "Right": str.rstrip}
    return changes[mode](string)


@node("StringReplace", title="Replace", category="utils/string")
def replace_text(*, string: Text, find: Text, replace: Text) -> str:
    """Replace every occurrence of a text by another.

    Args:
        string: The text to change.
        find: What to replace.
        replace: What to put there.
    """
    return string.replace(find, replace)


@node("StringContains", title="Contains", category="utils/string")
def contains(*, string: Text, substring: Text, case_sensitive: bool = True) -> Contains:
    """Whether a text contains another.

    Args:
        string: The text to look in.
        substring: The text to look for.
        case_sensitive: Whether capital and small letters differ.
    """
    if case_sensitive:
        return Contains(substring in string)
    return Contains(substring.lower() in string.lower())


@node("StringCompare", title="Compare", category="utils/string")
def compare(
    *, string_a: Text, string_b: Text, mode: Literal["Starts With", "Ends With", "Equal"], case_sensitive: bool = True
) -> bool:
    """Compare two texts.

    Args:
        string_a: The first text.
        string_b: The second text.
        mode: Whether the first starts with the second, ends with it, or equals it.
        case_sensitive: Whether capital and small letters differ.
    """
    a, b = (string_a, string_b) if case_sensitive else (string_a.lower(), string_b.lower())
    return {"Starts With": a.startswith(b), "Ends With": a.endswith(b), "Equal": a == b}[mode]


@node("RegexMatch", title="Regex Match", category="utils/string")
def regex_match(
    *, string: Text, regex_pattern: Text, case_insensitive: bool = True, multiline: bool = False, dotall: bool = False
) -> Matches:
    """Whether a pattern is found in a text.

    Differs: a pattern that is no regular expression is an error; the reference answers no.

    Args:
        string: The text to look in.
        regex_pattern: The pattern, as a Python regular expression.
        case_insensitive: Whether capital and small letters are the same.
        multiline: Whether `^` and `$` match at every line.
        dotall: Whether `.` matches line ends.
    """
    return Matches(_pattern(regex_pattern, case_insensitive, multiline, dotall).search(string) is not None)


@node("RegexExtract", title="Regex Extract", category="utils/string")
def regex_extract(
    *,
    string: Text,
    regex_pattern: Text,
    mode: Literal["First Match", "All Matches", "First Group", "All Groups"],
    case_insensitive: bool = True,
    multiline: bool = False,
    dotall: bool = False,
    group_index: Annotated[int, Range(0, 100)] = 1,
) -> str:
    """Take what a pattern matches out of a text; empty where it matches nothing.

    Differs: a pattern that is no regular expression is an error; the reference answers with empty text.

    Args:
        string: The text to look in.
        regex_pattern: The pattern, as a Python regular expression.
        mode: The first match, all of them in lines, or one group of the first or of each.
        case_insensitive: Whether capital and small letters are the same.
        multiline: Whether `^` and `$` match at every line.
        dotall: Whether `.` matches line ends.
        group_index: Which group, from 1; 0 is the whole match.
    """
    pattern = _pattern(regex_pattern, case_insensitive, multiline, dotall)
    if mode == "All Matches":
        found = pattern.findall(string)
        return "\n".join(match[0] if isinstance(match, tuple) else match for match in found)
    if mode == "First Match":
        first = pattern.search(string)
        return first[0] if first else ""
    if group_index > pattern.groups:
        return ""
    groups = [match[group_index] or "" for match in pattern.finditer(string)]
    return "\n".join(groups[:1] if mode == "First Group" else groups)


@node("RegexReplace", title="Regex Replace", category="utils/string")
def regex_replace(
    *,
    string: Text,
    regex_pattern: Text,
    replace: Text,
    case_insensitive: Annotated[bool, Widget(optional=True)] = True,
    multiline: Annotated[bool, Widget(optional=True)] = False,
    dotall: Annotated[bool, Widget(optional=True)] = False,
    count: Annotated[int, Range(0, 100), Widget(optional=True)] = 0,
) -> str:
    r"""Replace what a pattern matches.

    Args:
        string: The text to change.
        regex_pattern: The pattern, as a Python regular expression.
        replace: What to put there; `\1` inserts the first group.
        case_insensitive: Whether capital and small letters are the same.
        multiline: Whether `^` and `$` match at every line.
        dotall: Whether `.` matches line ends.
        count: How many matches to replace; 0 for all.
    """
    return _pattern(regex_pattern, case_insensitive, multiline, dotall).sub(replace, string, count=count)


def _pattern(pattern: str, case_insensitive: bool, multiline: bool, dotall: bool) -> re.Pattern[str]:  # noqa: FBT001 - the ports of three nodes
    flags = re.IGNORECASE * case_insensitive | re.MULTILINE * multiline | re.DOTALL * dotall
    try:
        return re.compile(pattern, flags)
    except re.error as cause:
        msg = f"cannot use {pattern!r} as a pattern: {cause}"
        raise ValueError(msg) from cause


@node("JsonExtractString", title="Extract String from JSON", category="utils/string")
def extract_json(*, json_string: Text, key: Line) -> str:
    """Take a value out of the first JSON object in a text.

    Args:
        json_string: The text; what stands around the object is passed over.
        key: Name of the value. It becomes text: text as it is, anything else as Python prints it. Without such a name, or
            where the value is null, the result is empty.
    """
    import json

    decoder = json.JSONDecoder()
    for start in re.finditer(r"\{", json_string):
        try:
            found, _ = decoder.raw_decode(json_string, start.start())
        except (ValueError, RecursionError):
            continue
        value = found.get(key)
        return "" if value is None else str(value)
    return ""


@node("StringFormat", title="Format Text", category="utils/string")
def format_text(
    *,
    f_string: Text = "{a}",
    values: Annotated[Mapping[str, Any], Growing(names=tuple("abcdefghijklmnopqrstuvwxyz"), min=0)],
) -> str:
    """Fill values into a text.

    Args:
        f_string: `{a}`, `{b}`, ... become the values; `{a:>8}` and `{a:.2f}` say how, `{{` is a brace.
        values: The values, called a, b, c, ...

    Differs: a place names a value alone, not its attributes or elements, which would reach into the engine; and nothing is
        filled up to more than 10,000 characters.
    """
    import string

    parts = []
    try:
        for literal, name, spec, conversion in string.Formatter().parse(f_string):
            parts.append(literal)
            if name is None:
                continue
            if name not in values:
                msg = f"the text asks for {{{name}}}, which is no linked value (there are: {', '.join(values) or 'none'})"
                raise ValueError(msg)
            if any(int(number) > LONGEST_FILL for number in re.findall(r"\d+", spec or "")) or "{" in (spec or ""):
                msg = f"the text asks for {{{name}:{spec:.20}}}, which is longer than {LONGEST_FILL} characters, or nested"
                raise ValueError(msg)
            value = values[name]
            if conversion is not None:
                value = CONVERSIONS[conversion](value)
            parts.append(format(value, spec or ""))
    except (TypeError, KeyError) as cause:
        msg = f"cannot fill in the text: {cause}"
        raise ValueError(msg) from cause
    return "".join(parts)


@node("SaveText", title="Save Text", category="text", effect=True)
def save(
    *,
    text: Annotated[str, Widget(forceInput=True)],
    filename_prefix: str = "ComfyUI",
    format: Literal["txt", "csv", "md", "json"] = "txt",  # noqa: A002 - the name that workflows use
    run: Run,
) -> Saved:
    """Save a text as a file.

    Args:
        text: The text.
        filename_prefix: First part of its name, before a number, as of `SaveImage`.
        format: Suffix of its name; `json` indents text that is JSON.
        run: Knows the output folder.

    Returns:
        text: The text as it came.
    """
    import json

    from engine.media import Series

    content = text
    if format == "json":
        try:
            content = json.dumps(json.loads(text), ensure_ascii=False, indent=2)
        except (ValueError, RecursionError):
            content = text
    series = Series.of(run.folders.output, "output", filename_prefix)
    files = series.publish((content.encode("utf-8", "replace"),), f".{format}", tail="")
    return Saved(text, Shown({"text": (text,), "files": files}))
