// Opens a project with Degate's own importer. Prints a line for each layer, wire and via; those of
// wires and vias end with the number of the net in which Degate has them.
#include <QCoreApplication>
#include <iostream>

#include "Core/LogicModel/Via/Via.h"
#include "Core/LogicModel/Wire/Wire.h"
#include "Core/Project/Project.h"
#include "Core/Project/ProjectImporter.h"

using namespace degate;

template <typename Object>
static void print_end(const Object& object)
{
    std::cout << " " << object->get_name() << " " << object->get_net()->get_object_id() << "\n";
}

int main(int argc, char** argv)
{
    QCoreApplication application(argc, argv);
    ProjectImporter importer;
    Project_shptr project(importer.import_all(argv[1]));
    LogicModel_shptr model = project->get_logic_model();
    for (auto layer = model->layers_begin(); layer != model->layers_end(); ++layer)
        std::cout << "layer " << (*layer)->get_layer_pos() << " " << (*layer)->get_description() << "\n";
    for (auto item = model->objects_begin(); item != model->objects_end(); ++item)
    {
        if (auto wire = std::dynamic_pointer_cast<Wire>(item->second))
        {
            std::cout << "wire " << wire->get_layer()->get_layer_pos() << " " << wire->get_from_x() << " "
                      << wire->get_from_y() << " " << wire->get_to_x() << " " << wire->get_to_y();
            print_end(wire);
        }
        else if (auto via = std::dynamic_pointer_cast<Via>(item->second))
        {
            std::cout << "via " << via->get_layer()->get_layer_pos() << " " << via->get_x() << " "
                      << via->get_y() << " " << via->get_direction_as_string();
            print_end(via);
        }
    }
}
