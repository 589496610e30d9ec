// Opens a file with Deroute's own EntityBox, and follows each net from its first wire on, as a
// user of Deroute does with "traversal selection". Prints a line for each net: its label, how many
// of its wires and vias were found, how many it has, and how many of other nets were found.
using System;
using System.Globalization;
using System.Linq;
using System.Windows.Forms;

static class Reader
{
    static void Main(string[] arguments)
    {
        CultureInfo.CurrentCulture = CultureInfo.InvariantCulture;
        var box = new EntityBox();
        box.Unserialize(arguments[0], false);
        var entities = box.root.Children.ToList();
        foreach (var net in entities.GroupBy(entity => entity.Label))
        {
            box.RemoveSelection();
            box.SelectEntity(net.First());
            box.TraversalSelection(1);
            var found = entities.Where(entity => entity.Selected).ToList();
            var own = found.Count(entity => entity.Label == net.Key);
            Console.WriteLine($"{net.Key} {own} {net.Count()} {found.Count - own}");
        }
    }
}
