/** Numbers of the NBD protocol, named as in its specification (NetworkBlockDevice/nbd, doc/proto.md). 64-bit ones as [high, low]. */
export const NBD_MAGIC = [0x4e42444d, 0x41474943] as const; // "NBDMAGIC"
export const OPTION_MAGIC = [0x49484156, 0x454f5054] as const; // "IHAVEOPT"
export const OPTION_REPLY_MAGIC = [0x0003e889, 0x045565a9] as const;
export const REQUEST_MAGIC = 0x25609513;
export const SIMPLE_REPLY_MAGIC = 0x67446698;
export const STRUCTURED_REPLY_MAGIC = 0x668e33ef;

export const GREETING_BYTES = 18;
export const OPTION_HEADER_BYTES = 16;
export const OPTION_REPLY_HEADER_BYTES = 20;
export const REQUEST_HEADER_BYTES = 28;
export const SIMPLE_REPLY_BYTES = 16;
export const CHUNK_HEADER_BYTES = 20;
/** A chunk header and the offset of the bytes that follow. */
export const DATA_CHUNK_HEADER_BYTES = 28;

export const HandshakeFlag = { fixedNewstyle: 1, noZeroes: 2 } as const;

export const Option = {
  exportName: 1, abort: 2, list: 3, startTls: 5, info: 6, go: 7, structuredReply: 8, listMetaContext: 9, setMetaContext: 10,
} as const;

export const OptionReply = {
  ack: 1, server: 2, info: 3, metaContext: 4,
  errUnsupported: 0x80000001, errPolicy: 0x80000002, errInvalid: 0x80000003, errTlsRequired: 0x80000005,
  errUnknown: 0x80000006, errShutdown: 0x80000007, errTooBig: 0x80000009,
} as const;

export const Info = { export: 0, name: 1, description: 2, blockSize: 3 } as const;

export const TransmissionFlag = {
  hasFlags: 1, readOnly: 2, sendFlush: 4, sendFua: 8, sendTrim: 32, sendWriteZeroes: 64, sendDf: 128,
  canMultiConn: 256, sendCache: 1024, sendFastZero: 2048,
} as const;

export const Command = { read: 0, write: 1, disconnect: 2, flush: 3, trim: 4, cache: 5, writeZeroes: 6, blockStatus: 7 } as const;
export const CommandFlag = { fua: 1, noHole: 2, df: 4, reqOne: 8, fastZero: 16 } as const;

export const ReplyType = { none: 0, offsetData: 1, offsetHole: 2, blockStatus: 5, error: 0x8001, errorOffset: 0x8002 } as const;
/** Set in the types of replies that are errors. */
export const REPLY_TYPE_ERROR_BIT = 0x8000;
export const ReplyFlag = { done: 1 } as const;

export const NbdError = { none: 0, perm: 1, io: 5, noMemory: 12, invalid: 22, noSpace: 28, overflow: 75, notSupported: 95, shutdown: 108 } as const;
export type NbdError = (typeof NbdError)[keyof typeof NbdError];

export const BASE_ALLOCATION = 'base:allocation';
/** The server's number for base:allocation on a connection. */
export const BASE_ALLOCATION_ID = 1;
