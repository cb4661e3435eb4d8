/** The event of a volume that gets another size: who is told what. */
import type { Tell } from '../events/events.js';
import type { VolumeState } from '../storage/index.js';

/** `volumes` are as they were; a record that says what is known already says nothing. */
export function tellResized(tell: Tell, volumes: readonly VolumeState[], index: number, toBytes: number): void {
  const volume = volumes.find((known) => known.index === index);
  if (volume === undefined || volume.sizeBytes === toBytes) return;
  const { name, sizeBytes: fromBytes } = volume;
  const event = toBytes > fromBytes ? 'volume-grown' : 'volume-shrunk';
  const message = `volume ${name} has ${toBytes} bytes now, it had ${fromBytes}`;
  tell('info', event, message, { volume: name, fromBytes, toBytes });
}
