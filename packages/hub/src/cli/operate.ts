/** `rephub resync`, `enroll`, `forget` and `test drop`: an operator's words to the hub. */
import { command, CommandFailure, EXIT, flag, formatSize } from '@rephub/command';
import { askGroups, askHub, hubOption } from './api.js';
import { confirm } from './confirm.js';

const groupArgument = { name: 'GROUP', help: 'the group' };
const yes = flag({ help: 'do it without asking', inFile: false });

export const resyncCommand = command({
  name: 'resync',
  summary: 'ask the agent to send again what may differ',
  arguments: [groupArgument],
  options: {
    ...hubOption,
    full: flag({ help: 'send everything again', inFile: false }),
    compare: flag({ help: 'compare everything by checksum, send what differs', inFile: false }),
    'drop-last-good': flag({
      help: 'a resync that has no room on the disk may give up the last good point',
      inFile: false,
    }),
    yes,
  },
  run: async (values, context) => {
    const name = context.arguments[0] ?? '';
    if (values.dropLastGood) {
      const [group] = await askGroups(values.http, context, name);
      await confirm(
        `Group ${name} may be left without any point that can be opened, from now until its resync has ended: the last good one, ` +
          `of ${group?.consistentTime ?? 'never'}, is given up if there is no room for both.`,
        values.yes,
        context,
      );
    }
    if (values.full) {
      const [group] = await askGroups(values.http, context, name);
      const bytes = group?.volumes.reduce((sum, volume) => sum + volume.sizeBytes, 0) ?? 0;
      await confirm(
        `All of group ${name} would be read and sent again: up to ${formatSize(bytes)}. ${values.dropLastGood ? '' : 'The last good point stays open meanwhile.'}`,
        values.yes,
        context,
      );
    }
    const { full, compare, dropLastGood } = values;
    if (full && compare) throw new CommandFailure(EXIT.wrongUsage, '--full and --compare exclude each other');
    await askHub(values.http, context, {
      method: 'POST',
      path: `${pathOf(name)}/resync`,
      body: { full, compare, dropLastGood },
    });
    context.out(
      dropLastGood && !full && !compare
        ? `the resync of ${name} may give the last good point up; see rephub status ${name}\n`
        : `the agent of ${name} was asked for ${full ? 'a full resync' : compare ? 'a comparison of everything' : 'a resync'}; see rephub status ${name}\n`,
    );
    return undefined;
  },
});

export const enrollCommand = command({
  name: 'enroll',
  summary: 'let the next unknown agent take the group over, because its own is gone for good',
  arguments: [groupArgument],
  options: {
    ...hubOption,
    cancel: flag({ help: 'take that back: nobody may take the group over', inFile: false }),
  },
  run: async (values, context) => {
    const name = context.arguments[0] ?? '';
    const path = `${pathOf(name)}/enroll`;
    if (values.cancel) {
      await askHub(values.http, context, { method: 'DELETE', path });
      context.out(`nobody may take ${name} over\n`);
      return undefined;
    }
    await askHub(values.http, context, { method: 'POST', path, body: {} });
    context.out(
      `the next unknown agent that connects for ${name} takes it over, with whatever disk it has, once the agent of ${name} is not connected; ` +
        `if that one comes back before, nobody does; 'rephub enroll ${name} --cancel' takes this back\n`,
    );
    return undefined;
  },
});

export const forgetCommand = command({
  name: 'forget',
  summary: 'remove a group with all its data',
  arguments: [groupArgument],
  options: { ...hubOption, yes },
  run: async (values, context) => {
    const name = context.arguments[0] ?? '';
    const [group] = await askGroups(values.http, context, name);
    const volumes = group?.volumes.map((volume) => `${volume.name} (${formatSize(volume.sizeBytes)})`).join(', ');
    const last = group?.consistentTime ?? 'never';
    await confirm(
      `Group ${name} would be removed: replicas of ${volumes ?? 'no volume'}, last consistent point ${last}, ` +
        `${formatSize(group?.journalBytes ?? 0)} of journal, ${group?.tests.length ?? 0} open tests. There is no way back. ` +
        'Its agent, if it is still there, begins again with a first sync.',
      values.yes,
      context,
    );
    await askHub(values.http, context, {
      method: 'POST',
      path: `${pathOf(name)}/forget`,
      body: { confirm: name },
      timeoutMs: 120_000,
    });
    context.out(`group ${name} is gone\n`);
    return undefined;
  },
});

export const dropTestCommand = command({
  name: 'test drop',
  summary: 'end a failover test that was kept open',
  arguments: [groupArgument, { name: 'NAME', help: 'the test' }],
  options: hubOption,
  run: async (values, context) => {
    const [name = '', test = ''] = context.arguments;
    const path = `${pathOf(name)}/tests/${encodeURIComponent(test)}`;
    await askHub(values.http, context, { method: 'DELETE', path, timeoutMs: 60_000 });
    context.out(`test ${test} of ${name} is gone\n`);
    return undefined;
  },
});

function pathOf(group: string): string {
  return `/groups/${encodeURIComponent(group)}`;
}
