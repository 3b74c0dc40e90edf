import re


def cut(text, problem):
    ends = [text.index(m) for m in problem.stop if m in text]
    if problem.ends_after and (f := re.search(problem.ends_after, text, re.M)):
        ends.append(f.end())
    for e in problem.ends_before:
        if f := re.search(e, text, re.M):
            ends.append(f.start())
    return text[: min(ends, default=len(text))]


def ended(text, problem):
    return cut(text, problem) != text
