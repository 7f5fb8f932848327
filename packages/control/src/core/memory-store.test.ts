import { metadataStoreSuite } from '../testing/metadata-store-suite.ts';
import { MemoryStore } from './memory-store.ts';

metadataStoreSuite('MemoryStore', (eventsMax) => new MemoryStore({ eventsMax }));
