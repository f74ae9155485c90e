"""Reads snippets with the languages' own readers.

The folder given has a folder for each image, with a file for each form and `names.json`: pairs of a
placeholder and a text. An image of hostile texts is equal to `plain` in every form, but for the
texts in place of the placeholders; else a text has left its literal. Prints what is wrong, and a
last line with the number of files that were read.
"""

import importlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import pycep
import tree_sitter
import yaml

folder, node_modules, packer, ansible = map(pathlib.Path, sys.argv[1:])
here = pathlib.Path(__file__).parent
wrong = []


class Loader(yaml.SafeLoader):
    """YAML as Ansible reads it: `!unsafe` marks a text that is not a template."""


Loader.add_constructor("!unsafe", lambda loader, node: {"!unsafe": loader.construct_scalar(node)})


def shell(path):
    """The words of each command, as bash reads them."""
    script = f"az() {{ printf '%s\\0' az \"$@\" $'\\1'; }}; docker() {{ az docker \"$@\"; }}; oras() {{ az oras \"$@\"; }}; . {path}"
    with tempfile.TemporaryDirectory() as home:
        read = subprocess.run([shutil.which("bash"), "--norc", "-c", script], capture_output=True, cwd=home, env={"PATH": "/nonexistent"})
        assert read.returncode == 0 and not read.stderr, read.stderr
        assert not os.listdir(home), "it wrote a file"
    words = []
    for word in read.stdout.decode().split("\0"):
        # A value that begins with '-' is joined to its option.
        words += word.split("=", 1) if word.startswith("--") and "=-" in word else [word]
    return words


def syntax(language, path):
    """The kinds of all nodes; what stands in a string is left out."""
    grammar = tree_sitter.Language(importlib.import_module(f"tree_sitter_{language}").language())
    root = tree_sitter.Parser(grammar).parse(path.read_bytes()).root_node

    def kinds(node):
        assert node.type != "ERROR" and not node.is_missing, f"{node.type} at {node.start_point}"
        inside = [] if "string" in node.type or "literal" in node.type else node.children
        if any(word in child.type for child in node.children for word in ("interpolation", "sub_expression")):
            # The code point of a character is the only expression in a string of PowerShell.
            for child in node.children:
                if "sub_expression" in child.type:
                    assert child.text.startswith(b"$([char]0x"), child.text
                assert "interpolation" not in child.type, child.text
        return [node.type if not inside or node.child_count else "leaf", [kinds(child) for child in inside]]

    return kinds(root)


def bicep(path):
    pycep.BicepParser().parse(text=path.read_text()) if path.parent.name == "plain" else None
    return syntax("bicep", path)


def arm(path):
    def of(value):
        if isinstance(value, dict):
            return {name: of(one) for name, one in value.items()}
        if isinstance(value, list):
            return [of(one) for one in value]
        if isinstance(value, str) and value.startswith("[[") and value.endswith("]"):
            return value[1:]
        if isinstance(value, str) and value.startswith("[") and value.endswith("]"):
            return {"expression": value}
        return value

    return of(json.loads(path.read_text()))


def hcl(value):
    """The values that hcl2json reads, which writes a text as a template again."""
    if isinstance(value, dict):
        return {name: hcl(one) for name, one in value.items()}
    if isinstance(value, list):
        return [hcl(one) for one in value]
    if isinstance(value, str):
        return value.replace("$${", "${").replace("%%{", "%{")
    return value


def put(value, names):
    """`value` with the texts in place of the placeholders."""
    if isinstance(value, dict):
        return {name: put(one, names) for name, one in value.items()}
    if isinstance(value, list):
        return [put(one, names) for one in value]
    if isinstance(value, str):
        for placeholder, text in names:
            value = value.replace(placeholder, text)
    return value


def marked(value):
    """`value` with each text as Ansible has it: one with braces is no template."""
    if isinstance(value, dict):
        return {name: marked(one) for name, one in value.items()} if "!unsafe" not in value else value
    if isinstance(value, list):
        return [marked(one) for one in value]
    if isinstance(value, str) and any(mark in value for mark in ("{{", "{%", "{#")) and "ssh_public_key" not in value:
        return {"!unsafe": value}
    return value


nodes = [str(path) for path in sorted(folder.glob("*/*")) if path.name in ("terraform", "packer", "pulumi")]
parsed = {}
for start in range(0, len(nodes), 200):
    lines = subprocess.run(["node", str(here / "snippets.mjs"), str(node_modules), *nodes[start : start + 200]], capture_output=True, text=True)
    assert lines.returncode == 0, lines.stderr
    for line in filter(None, lines.stdout.split("\n")):
        name, value = json.loads(line)
        if isinstance(value, dict) and "error" in value:
            wrong.append(f"{name}: {value['error']}")
        parsed[name] = value

READERS = {
    "az": shell,
    "docker": shell,
    "oras": shell,
    "powershell": lambda path: syntax("powershell", path),
    "bicep": bicep,
    "arm": arm,
    "terraform": lambda path: hcl(parsed[str(path)]),
    "packer": lambda path: hcl(parsed[str(path)]),
    "pulumi": lambda path: parsed[str(path)],
    "ansible": lambda path: yaml.load(path.read_text(), Loader),
    "cluster-api": lambda path: yaml.safe_load(path.read_text()),
    "kubernetes": lambda path: yaml.safe_load(path.read_text()),
    "dockerfile": lambda path: path.read_text().split(),
}


def validate(path):
    """Validates a file of an image with ordinary names by the tool itself."""
    with tempfile.TemporaryDirectory() as home:
        env = {"HOME": home, "PATH": os.environ["PATH"], "CHECKPOINT_DISABLE": "1", "ANSIBLE_NOCOLOR": "1"}
        if path.name == "packer" and "gallery_image_id" not in path.read_text():
            # Debian's Packer has the plugin built in, and no block that names plugins.
            template = pathlib.Path(home, "image.pkr.hcl")
            template.write_text(path.read_text().split("}\n\n", 1)[1])
            return subprocess.run([packer, "validate", template], capture_output=True, text=True, env=env)
        if path.name == "ansible":
            module = pathlib.Path(home, "ansible_collections/azure/azcollection/plugins/modules/azure_rm_virtualmachine.py")
            module.parent.mkdir(parents=True)
            module.write_text("# The collection is not in PyPI's ansible-core.\n")
            book = pathlib.Path(home, "play.yaml")
            book.write_text(path.read_text())
            env["ANSIBLE_COLLECTIONS_PATH"] = home
            return subprocess.run([ansible, "-i", "localhost,", "--syntax-check", book], capture_output=True, text=True, env=env)
        if path.name == "terraform" and shutil.which("terraform"):
            return subprocess.run(["terraform", "fmt", "-check", "-diff", "-"], input=path.read_text(), capture_output=True, text=True, env=env)
    return None


count = 0
for image in sorted(folder.iterdir()):
    names = json.loads((image / "names.json").read_text())
    for path in sorted(image.iterdir()):
        if path.name == "names.json":
            continue
        count += 1
        try:
            read = READERS[path.name](path)
            if names:
                plain = READERS[path.name](folder / ("plain-gallery" if image.name.endswith("-gallery") else "plain") / path.name)
                wanted = put(plain, names)
                wanted = marked(wanted) if path.name == "ansible" else wanted
                if read != wanted:
                    wrong.append(f"{path}: {read!r} is not {wanted!r}")
            elif (checked := validate(path)) is not None and checked.returncode != 0:
                wrong.append(f"{path}: {checked.stdout} {checked.stderr}")
        except Exception as error:
            wrong.append(f"{path}: {type(error).__name__} {error}")
print("\n".join(wrong[:20]))
print(f"{count} files, {len(wrong)} wrong")
