/** Version of Sporelet as a whole; the same for all apps. */
export const version = "0.1.0";
