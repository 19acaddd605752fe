// Checks the inclusion proof on this page: SHA-256 over leaf and path, against the signed root.
// RFC 9162 2.1.3.2; the same steps as core/merkle.py. Reads nothing but the page.
"use strict";

const text = (id) => document.getElementById(id).textContent.trim();
const fromHex = (hex) => {
  if (!/^([0-9a-f]{2})+$/.test(hex)) throw new Error("a hash that is no hex");
  return Uint8Array.from(hex.match(/../g), (pair) => parseInt(pair, 16));
};
const toHex = (bytes) => Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");
const fromBase64 = (text64) => Uint8Array.from(atob(text64), (c) => c.charCodeAt(0));
const join = (...parts) => Uint8Array.from(parts.flatMap((part) => Array.from(part)));
const sha256 = async (bytes) => new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
const node = (left, right) => sha256(join([1], left, right));

async function rootOf(leaf, index, size, path) {
  let place = index, last = size - 1, found = await sha256(join([0], leaf));
  for (const sibling of path) {
    if (last === 0) throw new Error("a hash too many");
    if (place % 2 === 1 || place === last) {
      found = await node(sibling, found);
      while (place % 2 === 0 && place > 0) { place /= 2; last = Math.floor(last / 2); }
    } else {
      found = await node(found, sibling);
    }
    place = Math.floor(place / 2);
    last = Math.floor(last / 2);
  }
  if (last !== 0) throw new Error("a hash too few");
  return found;
}

// Returns "good", "bad", or "unknown" where this browser has no Ed25519.
async function signature(note, key) {
  const cut = note.indexOf("\n\n");
  const line = note.slice(cut + 2).split("\n")[0];
  const signed = fromBase64(line.slice(line.lastIndexOf(" ") + 1)).slice(4);
  const message = new TextEncoder().encode(note.slice(0, cut + 1));
  let imported;
  try {
    imported = await crypto.subtle.importKey("raw", key, { name: "Ed25519" }, false, ["verify"]);
  } catch {
    return "unknown";
  }
  const good = await crypto.subtle.verify({ name: "Ed25519" }, imported, signed, message);
  return good ? "good" : "bad";
}

async function check() {
  const proof = document.getElementById("proof");
  const index = Number(proof.dataset.index), size = Number(proof.dataset.size);
  const path = Array.from(document.querySelectorAll("#hashes code"), (c) => fromHex(c.textContent.trim()));
  const root = text("root");
  const found = toHex(await rootOf(fromBase64(text("body")), index, size, path));
  if (found !== root) throw new Error("the leaf leads to another root");
  const note = text("note") + "\n";
  const [, saidSize, saidRoot] = note.split("\n");
  if (Number(saidSize) !== size || toHex(fromBase64(saidRoot)) !== root) {
    throw new Error("the checkpoint speaks of another root");
  }
  const signed = await signature(note, fromHex(text("key")));
  if (signed === "bad") throw new Error("the checkpoint is not signed by the ledger's key");
  return `Yes. ${path.length} hashes lead from leaf ${index} to the root of ${size} leaves`
    + (signed === "good" ? ", and the ledger's key signed that root." : "; this browser cannot check the signature.");
}

const button = document.getElementById("run"), verdict = document.getElementById("verdict");
if (window.isSecureContext && window.crypto && crypto.subtle) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    verdict.className = "verdict";
    try {
      verdict.textContent = await check();
      verdict.classList.add("good");
    } catch (error) {
      verdict.textContent = `No: ${error.message}. Get the page again; if it stays, tell others.`;
      verdict.classList.add("bad");
    }
  });
} else {
  verdict.textContent = "This browser hashes on https or on the machine itself only; the command below works anywhere.";
}
