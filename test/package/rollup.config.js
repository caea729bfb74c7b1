import commonjs from '@rollup/plugin-commonjs';
import json from '@rollup/plugin-json';
import { nodeResolve } from '@rollup/plugin-node-resolve';

export default {
  input: 'application.js',
  output: { file: 'bundle.mjs', format: 'es' },
  external: ['pg-format'],
  plugins: [nodeResolve({ preferBuiltins: true }), commonjs(), json()],
};
