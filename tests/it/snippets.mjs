// Parses HCL (as Terraform does) and TypeScript; for each file given, prints one line of JSON: the
// value of an HCL file, or the syntax tree of a TypeScript file with the values of its literals.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

const require = createRequire(process.argv[2] + "/");
const { parse } = require("@cdktf/hcl2json");
const typescript = require("typescript");

/** The tree of a node: kinds, with the text of names and literals. */
function tree(node, file) {
  const children = [];
  node.forEachChild((child) => { children.push(tree(child, file)); });
  const text = typescript.isStringLiteral(node) || typescript.isIdentifier(node) ? node.text : null;
  return [typescript.SyntaxKind[node.kind], text, children];
}

for (const name of process.argv.slice(3)) {
  const text = readFileSync(name, "utf8");
  let value;
  try {
    if (name.endsWith("pulumi")) {
      const file = typescript.createSourceFile("index.ts", text, typescript.ScriptTarget.ES2022, true);
      if (file.parseDiagnostics.length > 0) throw new Error(JSON.stringify(file.parseDiagnostics.map((one) => one.messageText)));
      value = tree(file, file);
    } else {
      value = await parse("main.tf", text);
    }
  } catch (error) {
    value = { error: String(error) };
  }
  console.log(JSON.stringify([name, value]));
}
