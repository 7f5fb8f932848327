export { controlAt, type Control } from './control.ts';
export { NodeManager, type AttachOptions, type EmbeddedOptions, type NodeManagerOptions } from './node-manager.ts';
export { siteLinks, siteLinksFile, type SiteFiles } from './site-door.ts';
export { Volume, type RequestOptions, type WriteOptions } from './volume.ts';
