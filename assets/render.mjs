// Turns avatar descriptions into SVG: one JSON object {style, options} a line in, one JSON string a line out.
// Run with the folder of node_modules as its only argument; drawing is left to resvg on the Python side.
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';

const require = createRequire(pathToFileURL(`${process.argv[2]}/`));
const load = (name) => import(pathToFileURL(require.resolve(name)).href);
const { createAvatar } = await load('@dicebear/core');
const collection = await load('@dicebear/collection');

for await (const line of createInterface({ input: process.stdin })) {
  const { style, options } = JSON.parse(line);
  process.stdout.write(JSON.stringify(createAvatar(collection[style], options).toString()) + '\n');
}
