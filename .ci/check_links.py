#!/usr/bin/env python3
"""Checks the links of the documentation, without asking the network.

    python3 .ci/check_links.py [--write] [ROOT]

* every relative link and image of a Markdown file leads to a file that is there, inside the repository;
* every anchor is that of a heading of the page it leads to, as mdBook and GitHub name it;
* docs/src/SUMMARY.md lists every page of docs/src, once;
* decisions (docs/adr) are numbered without a gap, and an "ADR 17" anywhere in the Markdown or the sources is one of them;
* docs/src/decisions.md lists every decision under its heading (`--write` writes that list anew), and the book includes every page of docs/formats;
* what a page includes ({{#include …}}) is there;
* paths in `code` that begin with a folder of the repository are there, where they name a Markdown or Rust file.

Prints what is wrong as `file:line: what`, and ends with 1 when anything is.
"""

import re
import sys
import unicodedata
from pathlib import Path
from urllib.parse import unquote

PAGES = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/**/*.md"]
SOURCES = ["*/src/**/*.rs", "*/tests/**/*.rs"]

FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})")
HEADING = re.compile(r"^ {0,3}(#{1,6})[ \t]+(.*?)[ \t]*#*[ \t]*$")
HEADING_ID = re.compile(r"\s*\{\s*#([^\s}]+)[^}]*\}\s*$")
CODE = re.compile(r"(`+)(.+?)\1(?!`)")
# [text](target "title"), and the same of images; targets in <> may have spaces.
INLINE = re.compile(r"!?\[(?:[^\[\]]|\[[^\]]*\])*\]\(\s*(<[^>]*>|[^()\s]*(?:\([^()]*\)[^()\s]*)*)(?:\s+[\"'(][^)]*)?\s*\)")
REFERENCE = re.compile(r"^ {0,3}\[([^\]]+)\]:\s*(<[^>]*>|\S+)")
INCLUDE = re.compile(r"^\{\{#include ([^:}\s]+)[^}]*\}\}$")
LIST = "docs/src/decisions.md"
LIST_HEAD = """# Decisions

Where something could well have been done otherwise, what was decided and why:

| | |
|---|---|
"""
DECISIONS_AT = "https://github.com/cairn-db/cairn/blob/main/docs/adr/"
DECISION_HEADING = re.compile(r"^# (\d+)\. (.+)$")
USE = re.compile(r"\[([^\[\]]+)\]\[([^\[\]]*)\]")
ELEMENT = re.compile(r"<(?:a|img)\s[^>]*?(?:href|src)\s*=\s*[\"']([^\"']*)[\"']", re.I)
ELEMENT_ID = re.compile(r"<[a-z][^>]*?\s(?:id|name)\s*=\s*[\"']([^\"']+)[\"']", re.I)
SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*:")
DECISION = re.compile(r"^(\d{4})-[a-z0-9-]+\.md$")
DECISION_NAMED = re.compile(r"\bADRs? (\d+)")
PATH_NAMED = re.compile(r"^[a-z0-9_.-]+(?:/[A-Za-z0-9_.-]+)+\.(?:md|rs|py|yml|toml)$")


def anchor(heading):
    """The id mdBook gives a heading; GitHub's differs in nothing that headings here have."""
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    text = re.sub(r"<[^>]+>", "", text)
    text = text.replace("`", "").replace("*", "")
    kept = []
    for character in text.strip().lower():
        if character.isspace():
            kept.append("-")
        elif character in "_-" or unicodedata.category(character)[0] in "LN":
            kept.append(character)
    return "".join(kept)


class Page:
    """A Markdown file: its links with their lines, its anchors, what its code names."""

    def __init__(self, path):
        self.path = path
        self.links = []
        self.named = []
        self.included = []
        self.anchors = set()
        self.problems = []
        references, uses, counts = {}, [], {}
        fence = None
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            edge = FENCE.match(line)
            if edge and fence is None:
                fence = edge.group(1)
                continue
            if fence is not None:
                if edge and edge.group(1)[0] == fence[0] and len(edge.group(1)) >= len(fence):
                    fence = None
                continue
            included = INCLUDE.match(line)
            if included:
                self.included.append((number, included.group(1)))
                continue
            heading = HEADING.match(line)
            if heading:
                self.add_heading(heading.group(2), counts)
            self.anchors.update(ELEMENT_ID.findall(line))
            self.named.extend((number, code[1].strip()) for code in CODE.findall(line))
            prose = CODE.sub("", line)
            reference = REFERENCE.match(prose)
            if reference:
                references[reference.group(1).lower()] = (number, reference.group(2))
                continue
            # The text of a link may be code: only links whose brackets stand in the prose count.
            for link in INLINE.finditer(CODE.sub(lambda code: "x" * len(code.group(0)), line)):
                self.links.append((number, line[link.start(1):link.end(1)]))
            self.links.extend((number, target) for target in ELEMENT.findall(prose))
            uses.extend((number, (label or text).lower()) for text, label in USE.findall(prose))
        if fence is not None:
            self.problems.append((number, "a block of code does not end"))
        self.links.extend(references.values())
        for number, label in uses:
            if label not in references:
                self.problems.append((number, f"there is no reference [{label}]"))

    def add_heading(self, text, counts):
        given = HEADING_ID.search(text)
        name = given.group(1) if given else anchor(text)
        count = counts.get(name, 0)
        counts[name] = count + 1
        self.anchors.add(name if count == 0 else f"{name}-{count}")


class Check:
    """All pages, and what is wrong with them."""

    def __init__(self, root):
        self.root = root.resolve()
        self.pages = {}
        self.problems = []
        for pattern in PAGES:
            for path in sorted(self.root.glob(pattern)):
                self.page(path)

    def page(self, path):
        path = path.resolve()
        if path not in self.pages:
            self.pages[path] = Page(path)
            for number, problem in self.pages[path].problems:
                self.wrong(path, number, problem)
        return self.pages[path]

    def wrong(self, path, number, problem):
        self.problems.append(f"{path.relative_to(self.root)}:{number}: {problem}")

    def links(self):
        count = 0
        for path, page in list(self.pages.items()):
            for number, target in page.links:
                target = target.strip("<>")
                if SCHEME.match(target) or target.startswith("//"):
                    continue
                count += 1
                self.link(path, number, target)
        return count

    def link(self, path, number, target):
        name, _, fragment = target.partition("#")
        found = (path.parent / unquote(name)).resolve() if name else path
        if not found.exists():
            return self.wrong(path, number, f"{target}: there is no {name}")
        if self.root not in found.parents and found != self.root:
            return self.wrong(path, number, f"{target} leads out of the repository")
        if fragment and found.suffix == ".md" and unquote(fragment) not in self.page(found).anchors:
            return self.wrong(path, number, f"{target}: {found.name} has no heading #{fragment}")
        if fragment and found.suffix != ".md" and not re.fullmatch(r"L\d+(-L\d+)?", fragment):
            self.wrong(path, number, f"{target}: only pages have headings")

    def paths(self):
        """Paths in code: those that begin with one of our folders."""
        for path, page in self.pages.items():
            for number, code in page.named:
                named = PATH_NAMED.match(code)
                first = self.root / code.split("/")[0]
                if named and first.is_dir() and not (self.root / code).exists():
                    self.wrong(path, number, f"there is no {code}")

    def summary(self):
        summary = self.root / "docs/src/SUMMARY.md"
        listed = {}
        for number, target in self.page(summary).links:
            page = (summary.parent / target.partition("#")[0]).resolve()
            if page in listed:
                self.wrong(summary, number, f"{target} is listed twice, in line {listed[page]}, too")
            listed.setdefault(page, number)
        for page in sorted(summary.parent.glob("**/*.md")):
            if page.resolve() not in listed and page != summary:
                self.wrong(summary, 1, f"{page.relative_to(summary.parent)} is not listed")

    def includes(self):
        included = set()
        for path, page in list(self.pages.items()):
            for number, name in page.included:
                found = (path.parent / name).resolve()
                included.add(found)
                if not found.exists():
                    self.wrong(path, number, f"{name} is included and not there")
        for page in sorted((self.root / "docs/formats").glob("*.md")):
            if page.resolve() not in included:
                self.wrong(page, 1, "the book does not include it: docs/src/formats should have a page that does")

    def list_of_decisions(self, write):
        """The list as it should be: a row for each decision."""
        rows = []
        for path in sorted((self.root / "docs/adr").glob("*.md")):
            heading = DECISION_HEADING.match(path.read_text(encoding="utf-8").split("\n", 1)[0])
            if heading is None or not path.name.startswith(f"{int(heading.group(1)):04}-"):
                self.wrong(path, 1, "a decision begins with its number and what it says: # 1. What it says")
                continue
            rows.append(f"| {heading.group(1)} | [{heading.group(2)}]({DECISIONS_AT}{path.name}) |\n")
        made = LIST_HEAD + "".join(rows)
        path = self.root / LIST
        if write:
            path.write_text(made, encoding="utf-8")
        if not path.exists() or path.read_text(encoding="utf-8") != made:
            self.problems.append(f"{LIST}:1: it is not the list of the decisions: .ci/check_links.py --write makes it anew")

    def decisions(self):
        folder = self.root / "docs/adr"
        numbers = {}
        for path in sorted(folder.glob("*.md")):
            named = DECISION.match(path.name)
            if not named:
                self.wrong(path, 1, "a decision is named 0001-what-it-says.md")
                continue
            number = int(named.group(1))
            if number in numbers:
                self.wrong(path, 1, f"{numbers[number].name} has the same number")
            numbers[number] = path
        for missing in sorted(set(range(1, max(numbers, default=0) + 1)) - set(numbers)):
            self.wrong(folder, 1, f"there is no decision {missing:04}")
        texts = list(self.pages)
        for pattern in SOURCES:
            texts.extend(sorted(self.root.glob(pattern)))
        for path in texts:
            for line, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                for number in DECISION_NAMED.findall(text):
                    if int(number) not in numbers:
                        self.wrong(path, line, f"there is no decision {number}")


def main():
    arguments = [argument for argument in sys.argv[1:] if argument != "--write"]
    root = Path(arguments[0]) if arguments else Path(__file__).parent.parent
    check = Check(root)
    check.list_of_decisions(write="--write" in sys.argv[1:])
    count = check.links()
    check.includes()
    check.paths()
    check.summary()
    check.decisions()
    for problem in check.problems:
        print(problem)
    print(f"{len(check.pages)} pages, {count} links, {len(check.problems)} wrong", file=sys.stderr)
    return 1 if check.problems else 0


if __name__ == "__main__":
    sys.exit(main())
