/** Whom the hub lets in: what listens where other machines can connect must have been asked for. */
import { type Address, ConfigFault, formatAddress, isLocalAddress } from '@rephub/platform';

/** Other machines may come in only when somebody said so (the contract; TLS and credentials come later). */
export function refuseOpenDoors(option: string, addresses: readonly Address[], insecure: boolean): void {
  if (insecure) return;
  const open = addresses.find((address) => !isLocalAddress(address));
  if (open === undefined) return;
  throw new ConfigFault(
    'not-local',
    `${option}: other machines could reach ${formatAddress(open)} without TLS or a credential; ` +
      'listen on loopback or a Unix socket, or say --insecure',
  );
}
