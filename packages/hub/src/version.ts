/** What this software calls itself to peers and people. */
export const VERSION = '0.1.0';
export const SOFTWARE = `rephub ${VERSION}`;
