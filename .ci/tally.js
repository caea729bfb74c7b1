/** `node tally.js REPORT STATUS`: vitest's JSON report and exit code in one plain line. */
import { readFileSync } from 'node:fs';

const [reportFile = '', status] = process.argv.slice(2);
const {
  numPassedTests = 0,
  numFailedTests = 0,
  numPendingTests = 0,
  numTodoTests = 0,
  testResults = [],
} = JSON.parse(readFileSync(reportFile, 'utf8') || '{}'); // empty if vitest did not get as far as to write it

const failed = numFailedTests + testResults.filter(failedOutsideItsTests).length;
// What fails outside of every file, such as the server's start or a stray rejection, shows in the exit code alone.
const otherwise = status !== '0' && failed === 0 ? 1 : 0;
console.info(
  `${numPassedTests} passed, ${failed + otherwise} failed, ${numPendingTests + numTodoTests} skipped`,
);

/** It cannot be imported, or one of its hooks fails. */
function failedOutsideItsTests(file) {
  return file.status === 'failed' && !file.assertionResults.some((test) => test.status === 'failed');
}
