/**
 * `node integrity.js LOCKFILE...`: fails if a lock file names a package without the hash of its tarball.
 *
 * npm leaves the hashes out for packages of other platforms, if it makes a lock file from a node_modules that lacks them. `--drop` takes such
 * packages out of the lock files. Then `npm install --package-lock-only` puts them back, at the same versions, with their hashes.
 */
import { readFileSync, writeFileSync } from 'node:fs';

const args = process.argv.slice(2);
const files = args.filter((arg) => arg !== '--drop');
let lacking = 0;
for (const file of files) {
  const lock = JSON.parse(readFileSync(file, 'utf8'));
  const without = Object.entries(lock.packages).filter(
    ([path, { link, integrity }]) => path !== '' && !link && !integrity,
  );
  if (without.length === 0) continue;
  if (args.includes('--drop')) {
    for (const [path] of without) delete lock.packages[path];
    writeFileSync(file, `${JSON.stringify(lock, null, 2)}\n`);
    console.info(`${file}: dropped ${without.length}; now run npm install --package-lock-only beside it`);
  } else {
    lacking += without.length;
    console.error(`${file} has no integrity for ${without.map(([path]) => path).join(', ')}`);
  }
}
if (lacking > 0) {
  console.error(`node .ci/integrity.js --drop ${files.join(' ')} mends it`);
  process.exit(1);
}
