"""Check a built site: `python docs/check_site.py SITE` exits with 1 and a line for each fault.

Every link and anchor within the site leads somewhere, every page has a description, every picture of a page
an alternative text, and no page loads a script or style from elsewhere.
"""

import html
import re
import sys
from pathlib import Path
from urllib.parse import unquote


def faults(site):
    """Return the faults of all pages, as lines."""
    texts = {page: page.read_text(encoding="utf-8") for page in sorted(site.rglob("*.html"))}
    anchors = {page: {html.unescape(name) for name in re.findall(r'\bid="([^"]+)"', text)}
               for page, text in texts.items()}
    found = [] if texts else [f"{site} has no pages"]
    for page, text in texts.items():
        name = page.relative_to(site)
        for target in re.findall(r'(?:href|src)="([^"]+)"', text):
            target = html.unescape(target)
            if re.match(r"\w+:", target):
                continue
            path, _, anchor = target.partition("#")
            there = (page.parent / unquote(path.partition("?")[0])).resolve() if path else page.resolve()
            if there.is_dir():
                there = there / "index.html"
            if not there.exists():
                found.append(f"{name}: {target} is missing")
            elif anchor and there.suffix == ".html" and unquote(anchor) not in anchors[there]:
                found.append(f"{name}: {target} has no such anchor")
        for tag in re.findall(r'<(?:script|link rel="(?:stylesheet|preload)")[^>]*https?://[^>]*>', text):
            found.append(f"{name}: loads from elsewhere: {tag}")
        article = text.partition("<article")[2].partition("</article>")[0]
        if page.stem in ("genindex", "py-modindex", "search"):
            continue
        if "sphx-glr-thumbcontainer" not in article:  # whose pictures stand beside their titles
            for tag in re.findall(r"<img[^>]*>", article):
                if not re.search(r'alt="[^"]{3,}"', tag):
                    found.append(f"{name}: no alternative text: {tag[:80]}")
        if article and "reference" not in name.parts and '<meta name="description"' not in text:
            found.append(f"{name}: no description")
    return found


if __name__ == "__main__":
    lines = faults(Path(sys.argv[1]).resolve())
    print("\n".join(lines))
    sys.exit(bool(lines))
