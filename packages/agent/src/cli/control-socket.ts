/** Where in its state directory a running agent is asked. */
export const CONTROL_SOCKET = 'control.sock';
