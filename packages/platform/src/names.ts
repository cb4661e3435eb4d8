/** What groups, volumes, checkpoints and tests may be called: names are parts of paths, URIs and commands, so little is allowed. */

export const NAME_PATTERN = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;

/** The same in words. */
export const NAME_RULE = 'a name is a letter or digit, then up to 63 of letters, digits, dot, underscore, dash';
