import { discardParked } from '../capture/parked.ts';
import { command } from './command.ts';
import { CHOICE, onChosen } from './parked-choice.ts';

export const discard = command({
  summary: 'drop parked events for good',
  details: `\
They never come again. Exit code 3: one of those that were named is not parked.`,
  options: CHOICE,
  run: (call) => onChosen(call, 'discarded', discardParked),
});
