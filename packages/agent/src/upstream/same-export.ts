/** Is what came back what was there before? What guests were told when they connected must stay true. Pure. */
import { type Abilities, type BlockDevice } from '@rephub/nbd';
import { ConfigFault, Fault } from '@rephub/platform';

/** A device that may know what it is called. */
export interface NamedDevice extends BlockDevice {
  /** The export's full name, as the server told it. */
  readonly exportName?: string;
}

/** What was there when the volume was opened. */
export interface KnownExport {
  readonly sizeBytes: number;
  readonly abilities: Abilities;
  readonly minimumBytes: number;
  readonly maximumBytes: number;
  readonly exportName: string | undefined;
}

export function knownExport(device: NamedDevice): KnownExport {
  const { sizeBytes, abilities, limits, exportName } = device;
  return {
    sizeBytes,
    abilities,
    minimumBytes: limits.minimumBytes,
    maximumBytes: limits.maximumBytes,
    exportName,
  };
}

const NEEDED = ['flush', 'trim', 'writeZeroes', 'fastZero', 'cache', 'fua'] as const;

/** What is wrong with it, in words; null when it is as it was. */
function differenceOf(known: KnownExport, device: NamedDevice, mayBeReadOnly: boolean): string | null {
  const { sizeBytes, abilities, limits, exportName } = device;
  // One that is larger has grown, which is told when every connection can do it.
  if (sizeBytes < known.sizeBytes) return `came back with ${sizeBytes} bytes instead of ${known.sizeBytes}`;
  if (exportName !== known.exportName) {
    return `came back as export "${exportName ?? ''}" instead of "${known.exportName ?? ''}"`;
  }
  if (abilities.readOnly) return mayBeReadOnly ? null : 'came back read-only';
  for (const ability of NEEDED) {
    if (known.abilities[ability] && !abilities[ability]) return `came back without ${ability}`;
  }
  const missing = known.abilities.contexts.find((context) => !abilities.contexts.includes(context));
  if (missing !== undefined) return `came back without ${missing}`;
  if (limits.minimumBytes > known.minimumBytes || limits.maximumBytes < known.maximumBytes) {
    return (
      `came back with block sizes ${limits.minimumBytes} to ${limits.maximumBytes} ` +
      `instead of ${known.minimumBytes} to ${known.maximumBytes}`
    );
  }
  return null;
}

/** What came back is not what was there before: throws the Fault `upstream-changed`. */
export function refuseChanged(name: string, known: KnownExport, device: NamedDevice, mayBeReadOnly: boolean): void {
  const difference = differenceOf(known, device, mayBeReadOnly);
  if (difference === null) return;
  throw new Fault('storage', 'upstream-changed', `upstream of ${name} ${difference}; not used`);
}

/** At the start a read-only upstream is no disk to protect: closes it and throws a ConfigFault. */
export async function refuseReadOnly(device: BlockDevice, name: string): Promise<void> {
  if (!device.abilities.readOnly) return;
  await device.close();
  throw new ConfigFault('upstream-read-only', `upstream of ${name} is read-only; a protected disk must be writable`);
}
