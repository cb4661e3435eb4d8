import type { Address } from '@rephub/platform';

/** An address of a block device: an NBD URI, or our `file:PATH`. */
export type DeviceUri = NbdUri | FileUri;

export interface NbdUri {
  readonly kind: 'nbd';
  readonly tls: boolean;
  readonly address: Address;
  /** Decoded; empty for the default export. */
  readonly exportName: string;
  /** `tls-*` parameters, as written. */
  readonly tlsOptions: ReadonlyMap<string, string>;
}

export interface FileUri {
  readonly kind: 'file';
  readonly path: string;
}

/** Throws a ConfigFault (`uri-…`) that names what is wrong. */
export function parseDeviceUri(text: string): DeviceUri {
  void text;
  throw new Error('not built yet');
}
/** As parseDeviceUri, but `file:` is refused (`uri-scheme`). */
export function parseNbdUri(text: string): NbdUri {
  void text;
  throw new Error('not built yet');
}
export function formatDeviceUri(uri: DeviceUri): string {
  void uri;
  throw new Error('not built yet');
}
/** Where to listen: parses an NBD URI without export name. Throws a ConfigFault (`uri-…`, `tls-not-yet`). */
export function parseListenUri(text: string): Address {
  void text;
  throw new Error('not built yet');
}
/** The URI of an export at an address, for people and other programs. */
export function exportUri(address: Address, exportName: string): string {
  void address;
  void exportName;
  throw new Error('not built yet');
}
