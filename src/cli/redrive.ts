import { redriveParked } from '../capture/parked.ts';
import { command } from './command.ts';
import { CHOICE, onChosen } from './parked-choice.ts';

export const redrive = command({
  summary: 'put parked events back, so that they come again',
  details: `\
An event comes again with the sequence that it had, and as attempt 1. Exit code 3: one of those that were named
is not parked.`,
  options: CHOICE,
  run: (call) => onChosen(call, 'redriven', redriveParked),
});
