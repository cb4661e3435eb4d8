/**
 * The end of a run: everything is given back, an operator does what only an operator can do, and within bounded virtual
 * time replica and upstream must be equal.
 */
import { BLOCK_BYTES } from './block-content.js';
import { compareCatalogue } from './catalogued.js';
import { upstreamContents } from './disk-contents.js';
import { lookAtReplica } from './looking.js';
import { enrolAnew, startAgent } from './operator.js';
import { LINK, TRUE_DISK } from './processes.js';
import { type World } from './world.js';

const LIMIT_MS = 240_000;
/** How long a group may stand still before the operator is called. */
const PATIENCE_MS = 45_000;

export async function heal(world: World): Promise<void> {
  world.healing = true;
  world.trace.add('healing');
  giveBack(world);
  await world.advanceTo(world.nowMs + 3000);
  const untilMs = world.nowMs + LIMIT_MS;
  let calledMs = world.nowMs;
  let doneBytes = 0;
  while (world.violation === null && !isSettled(world)) {
    await world.advanceTo(world.nowMs + 100);
    // Nobody interrupts what goes on: one slow comparison would be begun again and again, its hot extents at least (NOFULL).
    const nowDoneBytes = world.agent.up?.status().resync?.bytesDone ?? 0;
    if (nowDoneBytes > doneBytes) calledMs = world.nowMs;
    doneBytes = nowDoneBytes;
    if (world.nowMs - calledMs > PATIENCE_MS || needsOperator(world)) {
      await operate(world);
      calledMs = world.nowMs;
    }
    if (world.nowMs <= untilMs) continue;
    const status = world.agent.up?.status();
    const told = `${status?.state ?? 'agent is down'}: ${status?.reason ?? ''}, lag ${status?.lagBytes ?? -1}`;
    world.check('ORD', false, () => `not in step ${LIMIT_MS} ms after all was healed: ${told}`);
  }
  if (world.violation === null) await compare(world);
}

function giveBack(world: World): void {
  world.network.setSilent(LINK, false);
  for (const link of world.network.links()) link.thaw();
  world.calmLink();
  world.tap.spoil(null);
  for (const disk of world.disks.values()) disk.heal();
  world.hub.files.setCapacity(2 ** 40);
  world.removeFaults();
  for (const which of ['agent', 'hub', 'upstream'] as const) world[which].goOn();
  if (world.upstream.presented !== TRUE_DISK) {
    world.crashUpstream('keep');
    world.upstream.presented = TRUE_DISK;
  }
  world.upstream.start();
  // What nobody has found by now is found by a start.
  if (world.excuses.hubRotUnseen) world.crashHub('keep');
  world.hub.start();
  startAgent(world);
}

function isSettled(world: World): boolean {
  const status = world.agent.up?.status();
  if (status === undefined) return false;
  const bytes = status.reason.includes('cannot read') ? status.dirtyBytes + status.windowBytes : status.lagBytes;
  // What has grown is noticed when it is looked at.
  const isSmall = status.volumes.some(({ sizeBytes }, index) => sizeBytes < world.blocksOf(index) * BLOCK_BYTES);
  const inStep = status.state === 'protected' || status.reason.includes('cannot read');
  // What upstream cannot read is the agent's only word, also while the hub has the group closed.
  return inStep && !isSmall && bytes === 0 && world.guests.open.size === 0 && world.store !== null;
}

/** What nobody but an operator may decide, and what a supervisor would have done long ago. */
function needsOperator(world: World): boolean {
  const status = world.agent.up?.status();
  const stopped = status?.reason.includes('mirroring has stopped') === true;
  return stopped || world.store?.progress.stalled === 'journal-failed' || status?.hub?.refused === true;
}

async function operate(world: World): Promise<void> {
  const { agent, hub } = world;
  const status = agent.up?.status();
  world.trace.add(`operator: agent is ${status?.state ?? 'down'} (${status?.reason ?? ''})`);
  if (!agent.isWanted) startAgent(world);
  if (!hub.isWanted) hub.start();
  const { store } = world;
  // A group that could not be opened stays closed until the hub is started again.
  const isClosed = (world.group?.trouble ?? null) !== null;
  if (isClosed || store?.progress.stalled === 'journal-failed' || store?.state.applyFailed !== undefined) {
    world.crashHub('keep');
    hub.start();
  }
  if (status?.hub?.refused === true) {
    // First a word to go on; where the refusal stands, the agent is made anew and enrolled.
    if (world.hasResumed) await enrolAnew(world);
    else {
      world.hasResumed = true;
      await world.settle(agent.up?.resume() ?? Promise.resolve(), 5_000);
    }
  } else if (status?.reason.includes('mirroring has stopped') === true || world.excuses.stateDamaged) {
    // A disk that has failed once is not believed again by the process that saw it.
    world.crashAgent('keep');
    startAgent(world);
  }
  await world.advanceTo(world.nowMs + 3_000);
}

async function compare(world: World): Promise<void> {
  const { guests, excuses, setup } = world;
  // What could not be read is read again, and so is what nobody can know to have changed.
  if (excuses.unreadable || world.unheard.isAnyLost) {
    await world.settle(world.agent.up?.resync(true) ?? Promise.resolve(), 5_000);
    const untilMs = world.nowMs + LIMIT_MS;
    await world.advanceTo(world.nowMs + 200);
    while (world.violation === null && !isSettled(world) && world.nowMs < untilMs)
      await world.advanceTo(world.nowMs + 100);
  }
  world.history.closeOpen(() => true, world.nowMs);
  // Whoever comes now knows all sizes.
  guests.forget(null);
  for (const index of setup.volumes.keys()) await world.settle(guests.readAll(index), 60_000);
  guests.stop();
  await world.advanceTo(world.nowMs + 300);
  const look = await lookAtReplica(world);
  world.check('LASTGOOD', look !== null, () => 'all is healed, and no point can be opened');
  if (look === null || world.violation !== null) return;
  const upstream = upstreamContents(world);
  for (const checker of world.checkers) checker.looked?.(look);
  for (const checker of world.checkers) checker.converged?.(look, upstream);
  await compareCatalogue(world);
}
